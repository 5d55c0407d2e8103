"""What a server says of its work: one JSON object a line, without its own token and key.

Of what a rollout says there is no more than an error quotes.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

from rlforge.transports.secrets import Secret, redacted
from rlforge.types import WorldStart

LOGGER = logging.getLogger("rlforge.hosting")


class EventLog:
    """Writes events of one served thing to the logger `rlforge.hosting`, with stars in place of `secrets`."""

    def __init__(self, served: str, secrets: Iterable[Secret | None] = ()) -> None:
        self._served = served
        self._secrets = tuple(secrets)

    def world_ended(self, start: WorldStart | None, end: str, steps: int, seconds: float, error: str = "") -> None:
        """A world is gone; `end` says why."""
        whose = {"task": start.task.id, "rollout": start.rollout_id, "seed": start.seed} if start else {}
        self._write("world_ended", {**whose, "end": end, "steps": steps, "seconds": round(seconds, 3), "error": error})

    def scored(self, request_id: str, items: int, unscored: int, seconds: float, error: str = "") -> None:
        """A scoring request is answered."""
        facts = {"request": request_id, "items": items, "unscored": unscored}
        self._write("scored", {**facts, "seconds": round(seconds, 3), "error": error})

    def trouble(self, message: str) -> None:
        """Something went wrong that no caller is told."""
        self._write("trouble", {"error": message}, logging.WARNING)

    def server(self, event: str, **facts: Any) -> None:
        """The server itself started, drains or stopped."""
        self._write(event, facts)

    def _write(self, event: str, facts: dict[str, Any], level: int = logging.INFO) -> None:
        if LOGGER.isEnabledFor(level):
            kept = {name: self._shown(fact) for name, fact in facts.items() if fact != ""}
            line = {"time": round(time.time(), 3), "event": event, "served": self._served, **kept}
            LOGGER.log(level, "%s", json.dumps(line, ensure_ascii=False))

    def _shown(self, fact: Any) -> Any:
        """Before it becomes JSON, which would write some letters of a secret in another way."""
        return redacted(fact, self._secrets) if isinstance(fact, str) else fact


def log_to_stderr() -> None:
    """Let events of this process be written to standard error, unless the program has said where they go."""
    if LOGGER.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
