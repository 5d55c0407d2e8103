"""Calls a customer's reward function on rollouts: one by one, on whole batches, or as many coroutines at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rlforge.errors import RlforgeError, boundary
from rlforge.rewards.outcomes import Outcome, as_outcome, as_outcomes, raised, unscored
from rlforge.rewards.python.loading import check_call, is_async, load_function, source_of
from rlforge.rewards.python.printing import Printed, current
from rlforge.rewards.python.progress import Progress
from rlforge.types import Rollout

Send: TypeAlias = Callable[[bytes], object]
_HOLD_S = 0.001
"""Outcomes that follow one another faster than this are sent together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Instructions:
    """What to run and within which limits; JSON values only."""

    function: str
    options: dict[str, Any]
    batch: bool
    timeout_s: float
    memory_bytes: int
    output_chars: int
    concurrency: int


class Customer:
    """The function in its process."""

    def __init__(self, instructions: Instructions, progress: Progress, send: Send) -> None:
        """Import the function. Raises ConfigError that says what is wrong with it."""
        self._instructions = instructions
        self._progress = progress
        self._send = send
        self._function = load_function(instructions.function)
        check_call(self._function, instructions.function, instructions.options)
        self._source = source_of(self._function)
        self.asynchronous = is_async(self._function) and not instructions.batch
        self._runner = asyncio.Runner()
        self._outcomes: list[tuple[int, Outcome]] = []
        self._sent = 0.0

    def judge(self, rollouts: Sequence[Rollout]) -> None:
        """Send the outcome of each rollout, soon after it is known."""
        if self.asynchronous:
            self._runner.run(self._judge_at_once(rollouts))
        elif self._instructions.batch:
            self._judge_batch(rollouts)
        else:
            self._judge_in_turn(rollouts)
        self._flush()

    def _judge_in_turn(self, rollouts: Sequence[Rollout]) -> None:
        for index, rollout in enumerate(rollouts):
            printed, started = self._begin([index])
            if started - self._sent > _HOLD_S:
                self._flush()
            try:
                with boundary("reward function"):
                    outcome = as_outcome(self._call(rollout))
            except (RlforgeError, SystemExit) as error:
                outcome = raised(error, self._source)
            self._end(index, outcome, printed, started)

    def _judge_batch(self, rollouts: Sequence[Rollout]) -> None:
        count = len(rollouts)
        printed, started = self._begin(range(count))
        try:
            with boundary("reward function"):
                outcomes = as_outcomes(self._call(list(rollouts)), count)
        except (RlforgeError, SystemExit) as error:
            outcomes = [raised(error, self._source)] * count
        for index, outcome in enumerate(outcomes):
            self._end(index, outcome, printed, started)

    async def _judge_at_once(self, rollouts: Sequence[Rollout]) -> None:
        slots = asyncio.Semaphore(self._instructions.concurrency)

        async def one(index: int, rollout: Rollout) -> None:
            async with slots:
                printed, started = self._begin([index])
                outcome = await self._outcome_async(rollout)
                self._end(index, outcome, printed, started)
                self._flush()

        await asyncio.gather(*(one(index, rollout) for index, rollout in enumerate(rollouts)))

    async def _outcome_async(self, rollout: Rollout) -> Outcome:
        limit_s = self._instructions.timeout_s
        scope = asyncio.timeout(limit_s)
        try:
            with boundary("reward function"):
                async with scope:
                    return as_outcome(await self._function(rollout, **self._instructions.options))
        except (RlforgeError, SystemExit) as error:
            if scope.expired():
                return unscored("timeout", f"the function took longer than {limit_s:g} s", retryable=True)
            return raised(error, self._source)

    def _call(self, given: Any) -> Any:
        result = self._function(given, **self._instructions.options)
        return self._runner.run(_awaited(result)) if hasattr(result, "__await__") else result

    def _begin(self, indices: Sequence[int]) -> tuple[Printed, float]:
        for index in indices:
            self._progress.begin(index)
        printed = Printed(self._instructions.output_chars)
        current.set(printed)
        return printed, time.perf_counter()

    def _end(self, index: int, outcome: Outcome, printed: Printed, started: float) -> None:
        self._progress.finish(index)
        seconds = time.perf_counter() - started
        self._outcomes.append((index, {**outcome, "output": printed.text, "seconds": seconds}))

    def _flush(self) -> None:
        if self._outcomes:
            self._send(event("scores", {"scores": self._outcomes}))
            self._outcomes.clear()
        self._sent = time.perf_counter()


def event(word: str, facts: dict[str, Any]) -> bytes:
    """One event as it goes to the owner."""
    return word.encode() + b" " + json.dumps(facts).encode() + b"\n"


async def _awaited(result: Any) -> Any:
    return await result
