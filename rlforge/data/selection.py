"""One pass over the rows of a source: bad ones refused or named, the rest split and limited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rlforge.data.config import KINDS, Item, Kind, SourceConfig
from rlforge.data.splits import question_of, split_of
from rlforge.errors import DataError

Place = TypeVar("Place")
"""What a source needs to find a row again: an index, a byte offset, or the item itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection(Generic[Place]):
    """What one pass kept."""

    places: list[Place]
    kind: Kind
    skipped: tuple[str, ...]
    """One line for each bad row that was left out: where and why."""


def select(rows: Iterable[tuple[str, Place, Item | DataError]], config: SourceConfig, name: str) -> Selection[Place]:
    """Read rows until `limit` of them are kept, in their order. A row is: where it stands, its place, what it holds.

    Raises DataError for a bad row unless told to skip, for rows of different kinds, and when nothing is left.
    """
    places: list[Place] = []
    skipped: list[str] = []
    seen: set[int] = set()
    kind: Kind | None = None
    count = 0
    for count, (where, place, row) in enumerate(rows, start=1):  # noqa: B007 (the count is part of the last error)
        checked = _checked(row, kind, seen)
        if isinstance(checked, DataError):
            if config.on_bad_row == "refuse":
                raise DataError(f"{where}: {checked}; mend it, or set on_bad_row: skip") from checked
            skipped.append(f"{where}: {checked}")
            continue
        kind = KINDS[type(checked)]
        if config.splits is None or split_of(question_of(checked), config.splits, config.split_seed) == config.split:
            places.append(place)
        if len(places) == config.limit:
            break
    if kind is None or not places:
        raise DataError(_nothing_left(name, config, count, len(skipped)))
    return Selection(places=places, kind=kind, skipped=tuple(skipped))


def _checked(row: Item | DataError, kind: Kind | None, seen: set[int]) -> Item | DataError:
    """The row, or what is wrong with it beside the others. Remembers ids by their hash, 64 bits each."""
    if isinstance(row, DataError):
        return row
    if kind is not None and KINDS[type(row)] != kind:
        return DataError(f"'{row.id}' is one of {KINDS[type(row)]} in a source of {kind}; split the source or set kind")
    if hash(row.id) in seen:
        return DataError(f"the id '{row.id}' occurs twice; ids must be unique within a source")
    seen.add(hash(row.id))
    return row


def _nothing_left(name: str, config: SourceConfig, rows: int, skipped: int) -> str:
    where = f" in split '{config.split}'" if config.split else ""
    return f"source '{name}' has no items{where}: {rows} rows read, {skipped} of them bad"
