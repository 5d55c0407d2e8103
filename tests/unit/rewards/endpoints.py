"""A reward endpoint in this process that fails as a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from rlforge.types import Rollout, Score, ScorerSpec


class ToldEndpoint:
    """Right answers are worth 1; `faults` are raised by the first requests, one each (None raises nothing)."""

    def __init__(self, *faults: Exception | None, spec: ScorerSpec | None = None, seconds: float = 0.0) -> None:
        self.faults = list(faults)
        self.spec = spec or ScorerSpec(name="told")
        self.seconds = seconds
        self.down: Exception | None = None
        """Raised by every request while it is set."""
        self.change: Callable[[dict[str, Score]], Mapping[str, Score]] = lambda scores: scores
        self.asked: list[tuple[str, ...]] = []
        self.request_ids: list[str] = []
        self.busiest = self.under_way = 0
        self.closed = False

    async def describe(self) -> ScorerSpec:
        return self.spec

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        self.asked.append(tuple(items))
        self.request_ids.append(request_id)
        self.under_way += 1
        self.busiest = max(self.busiest, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        fault = self.down or (self.faults.pop(0) if self.faults else None)
        if fault:
            raise fault
        scores = {id: Score(scorer="", value=float(r.text == r.task.answer)) for id, r in items.items()}
        return self.change(scores)

    async def close(self) -> None:
        self.closed = True
