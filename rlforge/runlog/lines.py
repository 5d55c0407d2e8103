"""A file of JSON lines that one process appends to, and that survives being cut off in the middle of a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlforge.errors import RunError
from rlforge.runlog.schema import check_schema


class JsonLines:
    """One JSON object a line, each with its `schema`. Only one process may write."""

    def __init__(self, path: Path, schema: int) -> None:
        self.path = path
        self.schema = schema

    def append(self, record: Mapping[str, Any], *, durable: bool = False) -> None:
        """Add a line in one write: a killed process loses at most the line it was writing.

        `durable` also waits for the disk. A half-written line before this one is cut off first.
        """
        line = json.dumps({"schema": self.schema, **_plain(record)}, ensure_ascii=False, default=repr) + "\n"
        with self.path.open("ab+") as file:
            if not _ends_whole(file.fileno()):
                os.ftruncate(file.fileno(), _whole_bytes(self.path.read_bytes()))
            file.write(line.encode(errors="replace"))  # a lone surrogate costs a character, not the run
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; a half-written last one is left out. Raises RunError on any other broken line."""
        return [record for _, record in self._records()]

    def repair(self) -> int:
        """Cut off a half-written last line; returns how many bytes went."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        whole = _whole_bytes(content)
        if whole < len(content):
            os.truncate(self.path, whole)
        return len(content) - whole

    def truncate(self, count: int) -> int:
        """Keep the first `count` records; returns how many went."""
        records = self._records()
        if count < len(records):
            os.truncate(self.path, records[count][0])
        return max(0, len(records) - count)

    def _records(self) -> list[tuple[int, dict[str, Any]]]:
        """Whole records with the byte at which each begins."""
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        records: list[tuple[int, dict[str, Any]]] = []
        start = 0
        for number, line in enumerate(content[: _whole_bytes(content)].splitlines(keepends=True), 1):
            records.append((start, self._parse(line, number)))
            start += len(line)
        return records

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RunError(
                f"{self.path}:{number} is not JSON ({error}); the file was changed by hand or by a disk"
            ) from error
        if not isinstance(record, dict):
            raise RunError(f"{self.path}:{number} is not a JSON object")
        check_schema(record.get("schema"), self.schema, self.path)
        return record


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _whole_bytes(content: bytes) -> int:
    return content.rfind(b"\n") + 1


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what could not be measured becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
