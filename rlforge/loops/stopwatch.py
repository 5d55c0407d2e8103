"""Where a step's seconds went."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rlforge.types import Metrics


class Stopwatch:
    """Adds up seconds by name; `metrics()` are keys `time/<name>_s`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}

    def restart(self) -> None:
        """Begin the whole anew; laps taken since the last `metrics` (a publish before an evaluation) stay."""
        self._began = time.monotonic()

    @contextmanager
    def lap(self, name: str) -> Generator[None]:
        """Time the body under `name`."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def metrics(self) -> Metrics:
        """Seconds by name, and `time/step_s`, the whole since the last restart; laps begin anew."""
        laps = {f"time/{name}_s": seconds for name, seconds in self._seconds.items()}
        self._seconds = {}
        return {**laps, "time/step_s": time.monotonic() - self._began}
