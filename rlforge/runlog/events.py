"""events.jsonl: what went wrong or out of the ordinary, and what was done about it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlforge.runlog import schema
from rlforge.runlog.lines import JsonLines


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happened. Events are history: resuming a run forgets metrics, never events."""

    kind: str
    """`started`, `resumed`, `checkpoint`, `finished`, `interrupted`, `failed`, `retry`, `torn_line`, …"""
    time: float
    """Seconds since 1970."""
    message: str
    """One sentence for a person."""
    details: dict[str, Any]
    """Facts by name: stage, step, rollout, seconds."""


class EventLog:
    """The events of a run, oldest first."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, schema.EVENTS)

    def append(self, kind: str, message: str, **details: Any) -> None:
        """Add an event; `details` are JSON values."""
        self._lines.append({"kind": kind, "time": time.time(), "message": message, "details": details})

    def read(self, kind: str | None = None) -> list[Event]:
        """Events of one kind, or all."""
        every = (
            Event(kind=line["kind"], time=line["time"], message=line["message"], details=line["details"])
            for line in self._lines.read()
        )
        return [event for event in every if kind in (None, event.kind)]

    def repair(self) -> int:
        """Cut off a half-written last line; returns how many bytes went."""
        return self._lines.repair()
