"""A plain reward function in the role of a reward endpoint."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from rlforge.config import build, config_class
from rlforge.errors import ConfigError, ExtensionError, RlforgeError, boundary
from rlforge.interfaces import RewardEndpoint, Scorer
from rlforge.registry import SCORERS
from rlforge.rewards.outcomes import Outcome, as_outcome, as_outcomes, raised, unscored
from rlforge.threads import Threads, guarded
from rlforge.types import Rollout, Score, ScorerSpec

Read = TypeVar("Read")
RESERVE_S = 1.0
"""Seconds before a request's deadline (half its time at most) at which what is not done is answered as unscored: at the
deadline all would be lost."""
THREADS = 32
"""Calls of a plain function that run side by side; one that nobody waits for any more is not counted."""


def as_reward_endpoint(thing: Any, *, name: str = "", batch: bool = False) -> RewardEndpoint:
    """What plays the role already, or a function of a rollout (with `batch`, of a list of them) put into it.

    Raises ConfigError for anything else.
    """
    if isinstance(thing, RewardEndpoint) and not inspect.isclass(thing):
        return thing
    if not callable(thing) or inspect.isclass(thing):
        raise ConfigError(f"{thing!r} is no reward: it must be a function of a rollout, or play RewardEndpoint")
    return FunctionEndpoint(thing, name=name, batch=batch)


def reward_in_processes(function: Any, processes: int, *, name: str = "", batch: bool = False) -> RewardEndpoint:
    """A function that runs in guarded processes of its own, as the scorer `python` runs it.

    Raises ConfigError for what another process cannot import.
    """
    file = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    if file is None or function.__qualname__ != function.__name__ or not function.__name__.isidentifier():
        raise ConfigError(f"{function!r} cannot run in processes: it must be a function at the top of a file")
    config = config_class(SCORERS, "python").parse(
        {"type": "python", "function": f"{file}:{function.__name__}", "workers": processes, "batch": batch}
    )
    return ScorerEndpoint(build(SCORERS, config), name or function.__name__)


class ScorerEndpoint:
    """A scorer in the role of a reward endpoint; started when it is first asked what it is."""

    def __init__(self, scorer: Scorer, name: str) -> None:
        self._scorer = scorer
        self._name = name
        self._started = False

    async def describe(self) -> ScorerSpec:
        """Its name. Raises ConfigError when the scorer can never work."""
        if not self._started:
            await self._scorer.start()
            self._started = True
        return ScorerSpec(name=self._name)

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        """One score for each item; the scorer has its own limits on time."""
        return dict(zip(items, await self._scorer.score(list(items.values())), strict=True))

    async def close(self) -> None:
        """Stop the scorer."""
        await self._scorer.close()


class FunctionEndpoint:
    """Judges with a function, sync (on threads, so that a slow one holds nobody) or async."""

    def __init__(self, function: Callable[[Any], Any], *, name: str = "", batch: bool = False) -> None:
        self._function = function
        self._name = name or getattr(function, "__name__", type(function).__name__)
        self._batch = batch
        self._source = inspect.getsourcefile(inspect.unwrap(function)) if inspect.isfunction(function) else None
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
        )
        self._threads = Threads(f"reward-{self._name}", THREADS)

    async def describe(self) -> ScorerSpec:
        """Its name."""
        return ScorerSpec(name=self._name)

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        """One score for each item. An exception leaves the item unscored; so does the end of the time."""
        wait_s = max(timeout_s - RESERVE_S, timeout_s / 2)
        if self._batch:
            outcomes = await self._judge_together(list(items.values()), wait_s)
        else:
            outcomes = await self._judge_each(list(items.values()), wait_s)
        return {item: Score(scorer=self._name, **outcome) for item, outcome in zip(items, outcomes, strict=True)}

    async def close(self) -> None:
        """Nothing to stop: a call that runs is not waited for, and its thread ends with the process."""

    async def _judge_each(self, rollouts: Sequence[Rollout], wait_s: float) -> list[Outcome]:
        if not rollouts:
            return []
        calls = [asyncio.ensure_future(self._outcome(rollout)) for rollout in rollouts]
        try:
            await asyncio.wait(calls, timeout=wait_s)
            return [call.result() if call.done() else _late(wait_s) for call in calls]
        finally:
            for call in calls:
                call.cancel()

    async def _judge_together(self, rollouts: list[Rollout], wait_s: float) -> list[Outcome]:
        scope = asyncio.timeout(wait_s)
        try:
            async with scope:
                return await self._call(rollouts, lambda result: as_outcomes(result, len(rollouts)))
        except RlforgeError as error:
            return [self._raised(error)] * len(rollouts)
        except TimeoutError:
            if not scope.expired():
                raise
            return [_late(wait_s)] * len(rollouts)

    async def _outcome(self, rollout: Rollout) -> Outcome:
        try:
            return await self._call(rollout, as_outcome)
        except RlforgeError as error:
            return self._raised(error)

    async def _call(self, given: object, read: Callable[[object], Read]) -> Read:
        """What the function makes of `given`, as `read`. Raises ExtensionError for whatever it raises."""
        if not self._is_async:
            return await self._on_a_thread(lambda: read(self._function(given)))
        try:
            with boundary(f"reward '{self._name}'"):
                return read(await self._function(given))
        except SystemExit as error:  # it would end the event loop, and every other request with it
            raise ExtensionError(f"reward '{self._name}' ended its process") from error

    async def _on_a_thread(self, call: Callable[[], Read]) -> Read:
        calling = self._threads.submit(partial(guarded, call))
        try:
            return await asyncio.wrap_future(calling)
        except asyncio.CancelledError:
            self._threads.leave(calling)
            raise

    def _raised(self, error: RlforgeError) -> Outcome:
        cause = error.__cause__ if isinstance(error, ExtensionError) else None
        if isinstance(cause, RlforgeError):
            cause = None
        return raised(cast(BaseException, cause or error), self._source or "")


def _late(wait_s: float) -> Outcome:
    return unscored("timeout", f"the function was not done after {wait_s:.3g} s", retryable=True)
