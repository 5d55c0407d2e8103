"""Tasks, conversations or documents from a Python function of the user."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from rlforge.data.config import Item, Kind, SourceConfig
from rlforge.data.rows import item_from_row
from rlforge.data.selection import select
from rlforge.errors import DataError, boundary
from rlforge.importing import import_function
from rlforge.types import Conversation, Document, Task


class PythonSource:
    """Calls a function that returns (or yields) items: ours, or mappings with the keys of a JSONL row.

    The function must give the same items in the same order every time: draw from a seed, never from the clock. What it
    prints goes to stderr: stdout is for what was asked of us.
    """

    class Config(SourceConfig):
        """Settings of `python`."""

        type: str = "python"
        function: str
        """`file.py:name`, from the recipe's folder, or `package.module:name`. An endless generator needs a `limit`."""
        options: dict[str, Any] = Field(default_factory=dict)
        """Keyword arguments for it."""
        kind: Kind | None = None
        """What the rows are, as in `jsonl`."""
        extra_keys: Literal["refuse", "keep"] = "refuse"
        """`keep` puts keys we do not know into a task's info."""

    def __init__(self, config: Config, *, base: Path) -> None:
        """Raises ConfigError when there is no such function, ExtensionError when it raises, DataError for a bad row."""
        self._config = config
        with redirect_stdout(sys.stderr):
            function = import_function(config.function, "source function", base)
        self.name = config.name or config.function.rpartition(":")[2]
        selection = select(self._scan(function), config, self.name)
        self._items = selection.places
        self.kind: Kind = selection.kind
        self.skipped = selection.skipped

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        return self._items[index]

    def _scan(self, function: Callable[..., object]) -> Iterator[tuple[str, Item, Item | DataError]]:
        for index, row in enumerate(self._rows(function)):
            item = self._item(row, index)
            where = f"source '{self.name}' ({self._config.function}), item {index}"
            yield where, cast(Item, item), item  # the place of a bad row is never kept

    def _rows(self, function: Callable[..., object]) -> Iterator[object]:
        part = f"source '{self.name}' ({self._config.function})"
        with boundary(part), redirect_stdout(sys.stderr):
            rows = function(**self._config.options)
        if not isinstance(rows, Iterable) or isinstance(rows, str | Mapping):
            raise DataError(f"{part} returned {type(rows).__name__}; return or yield items, one after another")
        iterator = iter(cast(Iterable[object], rows))
        end = object()
        while True:
            with boundary(part), redirect_stdout(sys.stderr):
                row = next(iterator, end)
            if row is end:
                return
            yield row

    def _item(self, row: object, index: int) -> Item | DataError:
        if isinstance(row, Task | Conversation | Document):
            return _own(row, self.name)
        keep = self._config.extra_keys == "keep"
        try:
            return item_from_row(row, source=self.name, default_id=str(index), kind=self._config.kind, keep_extra=keep)
        except DataError as error:
            return error


def _own(item: Item, source: str) -> Item:
    """The item under this source's name: ids are unique across sources because they begin with it."""
    item_id = item.id if item.id.startswith(f"{source}/") else f"{source}/{item.id}"
    return replace(item, id=item_id, source=source)
