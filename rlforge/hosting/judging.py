"""The scoring requests a server answers; the same behind gRPC and HTTP."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress

from rlforge.deadlines import deadline
from rlforge.errors import DataError, EndpointBusy, EndpointUnavailable, ExtensionError, RlforgeError, boundary
from rlforge.hosting.log import EventLog
from rlforge.interfaces import RewardEndpoint
from rlforge.types import Rollout, Score, ScorerSpec
from rlforge.wire.pb import reward_pb2, types_pb2
from rlforge.wire.scores import decode_score_request, encode_score

ADVICE_S = 0.25
"""Seconds a client is told to wait when too many requests are under way."""


class Judging:
    """One reward endpoint on a server."""

    def __init__(self, endpoint: RewardEndpoint, spec: ScorerSpec, log: EventLog) -> None:
        self.endpoint = endpoint
        self.spec = spec
        self.draining = False
        self._log = log
        self._slots = asyncio.Semaphore(spec.max_concurrency or sys.maxsize)
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def score(self, request: reward_pb2.ScoreRequest, timeout_s: float) -> reward_pb2.ScoreResponse:
        """One score for each item. Raises DataError, EndpointBusy, EndpointUnavailable or DeadlineExceeded."""
        return await self._logged(request, self._now_or_never(request, timeout_s))

    async def stream(
        self, items: AsyncIterator[reward_pb2.ScoreItem], timeout_s: float
    ) -> AsyncIterator[types_pb2.Score]:
        """A score for each item as soon as it is there, in any order; an item waits until there is room for it.

        Raises what `score` raises, except EndpointBusy for want of room here.
        """
        judged: asyncio.Queue[types_pb2.Score | None] = asyncio.Queue()
        feeding = asyncio.create_task(self._feed(items, judged, timeout_s))
        feeding.add_done_callback(lambda _: judged.put_nowait(None))
        try:
            while (score := await judged.get()) is not None:
                yield score
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def drain(self, within_s: float) -> None:
        """Take no new request; wait for those under way, `within_s` seconds at most."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()

    async def close(self) -> None:
        """Close the endpoint itself."""
        await self.endpoint.close()

    async def _logged(
        self, request: reward_pb2.ScoreRequest, judging: Awaitable[Mapping[str, Score]]
    ) -> reward_pb2.ScoreResponse:
        began = time.monotonic()
        try:
            scores = await judging
        except RlforgeError as error:
            self._log.scored(request.request_id, len(request.items), 0, time.monotonic() - began, str(error))
            raise
        unscored = sum(not score.scored for score in scores.values())
        self._log.scored(request.request_id, len(scores), unscored, time.monotonic() - began)
        sent = [_encoded(item, score) for item, score in scores.items()]
        return reward_pb2.ScoreResponse(request_id=request.request_id, scores=sent)

    async def _now_or_never(self, request: reward_pb2.ScoreRequest, timeout_s: float) -> Mapping[str, Score]:
        name = self.spec.name
        if self._slots.locked():
            raise EndpointBusy(f"scorer '{name}' has {self._under_way} requests under way and takes no more", ADVICE_S)
        async with self._slots:
            return await self._scores(request, timeout_s)

    async def _scores(self, request: reward_pb2.ScoreRequest, timeout_s: float) -> Mapping[str, Score]:
        items = decode_score_request(request)
        name = self.spec.name
        if self.spec.max_batch and len(items) > self.spec.max_batch:
            raise DataError(f"{len(items)} items in one request; scorer '{name}' takes {self.spec.max_batch}")
        if self.draining:
            raise EndpointUnavailable(f"scorer '{name}' is draining; ask again")
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._judged(items, request.request_id, timeout_s)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _judged(self, items: dict[str, Rollout], request_id: str, timeout_s: float) -> Mapping[str, Score]:
        name = self.spec.name
        async with deadline(timeout_s, f"scorer '{name}' to judge {len(items)} rollouts"):
            with boundary(f"scorer '{name}'", on=f"request '{request_id}'"):
                try:
                    scores = await self.endpoint.score(items, request_id=request_id, timeout_s=timeout_s)
                except SystemExit as error:  # it would end the event loop, and every other request with it
                    raise ExtensionError(f"scorer '{name}' ended its process on request '{request_id}'") from error
        silent = Score(scorer=name, error_kind="malformed", reason="the scorer gave no score for this rollout")
        return {item: scores.get(item, silent) for item in items}

    async def _feed(
        self,
        items: AsyncIterator[reward_pb2.ScoreItem],
        judged: asyncio.Queue[types_pb2.Score | None],
        timeout_s: float,
    ) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + timeout_s

        async def judge(item: reward_pb2.ScoreItem) -> None:
            request = reward_pb2.ScoreRequest(request_id=item.id, items=[item])
            response = await self._logged(request, self._scores(request, ends - clock()))
            judged.put_nowait(response.scores[0])

        try:
            async with asyncio.TaskGroup() as tasks:
                async for item in items:
                    # before the next item is read: whoever sends faster than we judge waits
                    async with deadline(ends - clock(), f"room for item '{item.id}' at scorer '{self.spec.name}'"):
                        await self._slots.acquire()
                    task = tasks.create_task(judge(item))
                    task.add_done_callback(lambda _: self._slots.release())  # also when it never came to run
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None  # the first ended the others


def _encoded(item: str, score: Score) -> types_pb2.Score:
    try:
        return encode_score(item, score)
    except DataError as error:
        return encode_score(item, Score(scorer=score.scorer, error_kind="malformed", reason=str(error)))
