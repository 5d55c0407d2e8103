"""Rows of a JSONL file: tasks, conversations or documents, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from rlforge.data.config import Item, Kind, SourceConfig
from rlforge.data.rows import item_from_row
from rlforge.data.selection import select
from rlforge.errors import DataError
from rlforge.json_lines import parse_line


class JsonlSource:
    """Reads a file once to check every row and note where it begins; rows are read again when asked for.

    Example row of a task: `{"id": "17", "prompt": "12+34=", "answer": "46"}`; of a conversation:
    `{"prompt": "12+34=", "completion": "46"}` or `{"messages": [...]}`; of a document: `{"text": "…"}`.
    """

    class Config(SourceConfig):
        """Settings of `jsonl`."""

        type: str = "jsonl"
        path: str
        """The file; a relative path starts at the recipe's folder. Blank lines are passed over."""
        kind: Kind | None = None
        """What the rows are; None reads it off their keys (see `data/rows.py`) and holds every row to the first's."""
        columns: Mapping[str, str] = Field(default_factory=dict)
        """Our key -> the file's, where they differ: `{prompt: question}` reads the column `question` as prompt."""
        extra_keys: Literal["refuse", "keep"] = "refuse"
        """`keep` puts keys we do not know into a task's info; a conversation or a document passes over them."""

    def __init__(self, config: Config, *, base: Path) -> None:
        """Raises DataError that names file and line of a bad row."""
        self._config = config
        self._path = base / config.path
        self.name = config.name or self._path.stem
        selection = select(self._scan(), config, self.name)
        self._places = selection.places
        self.kind: Kind = selection.kind
        self.skipped = selection.skipped

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Item:
        line, offset = self._places[index]
        with self._path.open("rb") as file:
            file.seek(offset)
            item = self._item(file.readline(), line)
        if isinstance(item, DataError):
            raise DataError(f"{self._path}:{line}: {item}; the file has changed since it was opened") from item
        return item

    def _scan(self) -> Iterator[tuple[str, tuple[int, int], Item | DataError]]:
        """Each row with `file:line` and (line number, byte offset)."""
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise DataError(f"source '{self.name}': cannot open '{self._path}': {error.strerror}") from error
        with file:
            offset = 0
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield f"{self._path}:{line}", (line, offset), self._item(text, line)
                offset += len(text)

    def _item(self, text: bytes, line: int) -> Item | DataError:
        try:
            row = _rename(parse_line(text), self._config.columns)
            keep = self._config.extra_keys == "keep"
            kind = self._config.kind
            return item_from_row(row, source=self.name, default_id=str(line), kind=kind, keep_extra=keep)
        except DataError as error:
            return error


def _rename(row: object, columns: Mapping[str, str]) -> object:
    if not columns or not isinstance(row, dict):
        return row
    ours = {theirs: our for our, theirs in columns.items()}
    missing = sorted(theirs for theirs in ours if theirs not in row)
    if missing:
        raise DataError(f"the row has no column '{missing[0]}', which columns names; it has {', '.join(row)}")
    return {ours.get(key, key): value for key, value in row.items()}
