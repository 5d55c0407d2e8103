"""activity.json: what the run is doing now, or was doing when it was killed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_ROOM = 256  # bytes; a shorter text is filled up, so that each write replaces all of the one before


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """One thing that takes time. Example: `Activity(stage="grpo", step=7, doing="learn", since=1.7e9)`."""

    stage: str
    step: int
    """The step at hand, from 1; for evaluations and checkpoints, the steps done."""
    doing: str
    """`evaluate`, `publish`, `load`, `collect`, `annotate`, `learn`, `checkpoint`."""
    since: float
    """Seconds since 1970."""


class ActivityFile:
    """Kept by the run's one writer; costs microseconds, because nothing waits for the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def begin(self, stage: str, step: int, doing: str) -> None:
        """Say what begins now."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        activity = Activity(stage=stage[:100], step=step, doing=doing, since=time.time())
        os.pwrite(self._file, json.dumps(asdict(activity)).ljust(_ROOM - 1).encode()[: _ROOM - 1] + b"\n", 0)

    def read(self) -> Activity | None:
        """The last thing that began; None before the first."""
        try:
            return Activity(**json.loads(self.path.read_bytes()))
        except (FileNotFoundError, ValueError):  # not begun, or just being written for the first time
            return None

    def close(self) -> None:
        """Write no more; what was said stays. May be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
