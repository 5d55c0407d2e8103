"""What a judge may spend: verdicts kept on disk, a cap on tokens, a rate that holds across processes of a host."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlforge.rewards.judge.verdict import Verdict
from rlforge.runlog.atomic import atomic_file

_SCHEMA = 1


class VerdictCache:
    """Verdicts by content: whoever asks the same judge the same question gets the same answer without asking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under a key; None where there is none, or it cannot be read."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
            if kept.pop("schema") != _SCHEMA:
                return None
            return Verdict(**kept)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict; a killed process leaves none or a whole one."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, durable=False) as temporary:
            temporary.write_text(json.dumps({"schema": _SCHEMA, **asdict(verdict)}), encoding="utf-8")

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"


def content_key(**facts: Any) -> str:
    """A key that is the same for the same facts, and for no others."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Meter:
    """Tokens spent and the moment of the next request.

    With a folder both are kept in a file there, under a lock: routers of the same host that name the same folder share
    them, and a resumed run goes on counting. Without one they are this object's own.
    """

    def __init__(self, *, folder: Path | None, max_tokens: int | None, per_minute: float | None) -> None:
        self._file = folder / "meter.json" if folder else None
        self._max_tokens = max_tokens
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._own: dict[str, float] = {}
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)

    def reserve(self, tokens: int) -> bool:
        """Set tokens aside for a request; False when the cap leaves no room for them."""
        if self._max_tokens is None:
            return True
        with self._state() as state:
            if state.get("tokens", 0) + tokens > self._max_tokens:
                return False
            state["tokens"] = state.get("tokens", 0) + tokens
        return True

    def settle(self, reserved: int, used: int) -> None:
        """Put what was really used in place of what was set aside."""
        if self._max_tokens is not None and reserved != used:
            with self._state() as state:
                state["tokens"] = state.get("tokens", 0) + used - reserved

    def turn_s(self) -> float:
        """Take the next turn; seconds to wait for it."""
        if not self._gap_s:
            return 0.0
        with self._state() as state:
            now = time.time()
            turn = max(now, state.get("next", 0.0))
            state["next"] = turn + self._gap_s
        return turn - now

    @contextmanager
    def _state(self) -> Generator[dict[str, float]]:
        """What is counted, to be changed. Held for microseconds: nobody awaits anything meanwhile."""
        if self._file is None:
            yield self._own
            return
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            state = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
            yield state
            written = json.dumps(state).ljust(64).encode()  # one write, never shorter: a kill leaves no torn end
            os.pwrite(descriptor, written, 0)
        finally:
            os.close(descriptor)
