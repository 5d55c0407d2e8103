"""Collecting: a rollout worker plays and scores the members of its groups all at once; a collector has many workers.

Produces finished groups; consumes group requests; waits for generators and the reward router, and is unblocked by
each member's own deadline, so that one hanging world or scorer cannot hold its group for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from rlforge.deadlines import deadline
from rlforge.errors import DataError, DeadlineExceeded
from rlforge.interfaces import Orchestrator, RewardRouter, RolloutWorker
from rlforge.together import all_or_none, end
from rlforge.types import FAULTS, Group, GroupRequest, Rollout, RolloutKey, StopReason

SCORING_S = 3600.0
"""Seconds beyond a group's own deadline that its scorers, with their time-outs and retries, may need at most."""


async def as_they_finish(
    play: Callable[[GroupRequest], Coroutine[Any, Any, Group]], requests: Sequence[GroupRequest]
) -> AsyncIterator[Group]:
    """Play all groups at once and yield each when it has ended; those left when nobody reads on are cancelled."""
    playing = [asyncio.create_task(play(request)) for request in requests]
    try:
        for finished in asyncio.as_completed(playing):
            yield await finished
    finally:
        await end(playing)


class GroupPlayer:
    """The rollout worker: plays the RolloutWorker role on one event loop."""

    def __init__(self, orchestrator: Orchestrator, router: RewardRouter, *, attempts: int = 2) -> None:
        self._orchestrator = orchestrator
        self._router = router
        self._attempts = attempts

    async def start(self) -> None:
        """Make the orchestrator ready."""
        await self._orchestrator.start()

    async def close(self) -> None:
        """Close the orchestrator; the router belongs to others."""
        await self._orchestrator.close()

    def collect(self, requests: Sequence[GroupRequest]) -> AsyncIterator[Group]:
        """Yield each group as soon as its last member is scored."""
        return as_they_finish(self._group, requests)

    async def _group(self, request: GroupRequest) -> Group:
        members = [asyncio.create_task(self._member(request, member)) for member in range(request.size)]
        return Group(request=request, rollouts=tuple(await all_or_none(members)))

    async def _member(self, request: GroupRequest, member: int) -> Rollout:
        """Play until an attempt ends for a reason of its own, then score it."""
        ends = time.monotonic() + request.deadline_s
        rollout = await self._attempt(request, member, 0, ends)
        for attempt in range(1, self._attempts):
            if rollout.stop_reason not in FAULTS or time.monotonic() >= ends:
                break
            rollout = await self._attempt(request, member, attempt, ends)
        return await self._scored(rollout)

    async def _attempt(self, request: GroupRequest, member: int, attempt: int, ends: float) -> Rollout:
        key = RolloutKey(
            task_id=request.task.id, epoch=request.epoch, group=request.group, member=member, attempt=attempt
        )
        try:
            async with deadline(max(0.0, ends - time.monotonic()), f"rollout {key.rollout_id}"):
                return await self._orchestrator.run(key, request.task, request.sampling, request.seed)
        except DeadlineExceeded as error:
            return Rollout(
                key=key,
                task=request.task,
                seed=request.seed,
                turns=(),
                stop_reason=StopReason.TIMEOUT,
                sampling=request.sampling,
                error=str(error),
            )

    async def _scored(self, rollout: Rollout) -> Rollout:
        began = time.monotonic()
        (reward,) = await self._router.reward([rollout])
        timings = {**rollout.timings, "score_s": time.monotonic() - began}
        return replace(rollout, reward=reward, timings=timings)


class Collector:
    """Spreads group requests over rollout workers and returns the finished groups in the order asked."""

    def __init__(self, workers: Sequence[RolloutWorker]) -> None:
        self.workers = list(workers)

    async def collect(self, requests: Sequence[GroupRequest]) -> list[Group]:
        """All groups. The first worker that fails ends the wait for the others.

        Members and scorers have deadlines of their own; this one is for a worker that is lost without a word. Raises
        DataError when two requests have one name, since one's group would stand for both.
        """
        names = Counter(request.group for request in requests)
        if len(names) < len(requests):
            raise DataError(f"two groups are called '{names.most_common(1)[0][0]}'; ids of tasks must be unique")
        shares = [requests[first :: len(self.workers)] for first in range(len(self.workers))]
        waits = [
            asyncio.create_task(_finish(worker, share))
            for worker, share in zip(self.workers, shares, strict=True)
            if share
        ]
        try:
            longest = max((request.deadline_s for request in requests), default=0.0) + SCORING_S
            async with deadline(longest, f"{len(requests)} groups from {len(self.workers)} rollout workers"):
                finished = {group.request.group: group for groups in await asyncio.gather(*waits) for group in groups}
        finally:
            await end(waits)
        return [finished[request.group] for request in requests]


async def _finish(worker: RolloutWorker, requests: Sequence[GroupRequest]) -> list[Group]:
    return [group async for group in worker.collect(requests)]
