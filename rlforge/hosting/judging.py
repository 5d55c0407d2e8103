"""The scoring requests a server answers; the same behind gRPC and HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from rlforge.deadlines import deadline
from rlforge.errors import DataError, EndpointBusy, EndpointUnavailable, RlforgeError, boundary
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
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def score(self, request: reward_pb2.ScoreRequest, timeout_s: float) -> reward_pb2.ScoreResponse:
        """One score for each item. Raises DataError, EndpointBusy, EndpointUnavailable or DeadlineExceeded."""
        began = time.monotonic()
        try:
            scores = await self._scores(request, timeout_s)
        except RlforgeError as error:
            self._log.scored(request.request_id, len(request.items), 0, time.monotonic() - began, str(error))
            raise
        unscored = sum(not score.scored for score in scores.values())
        self._log.scored(request.request_id, len(scores), unscored, time.monotonic() - began)
        sent = [_encoded(item, score) for item, score in scores.items()]
        return reward_pb2.ScoreResponse(request_id=request.request_id, scores=sent)

    async def stream(
        self, items: AsyncIterator[reward_pb2.ScoreItem], timeout_s: float
    ) -> AsyncIterator[types_pb2.Score]:
        """A score for each item as soon as it is there, in any order."""
        judged: asyncio.Queue[types_pb2.Score | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed(items, judged, timeout_s))
            while (score := await judged.get()) is not None:
                yield score

    async def drain(self, within_s: float) -> None:
        """Take no new request; wait for those under way, `within_s` seconds at most."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()

    async def close(self) -> None:
        """Close the endpoint itself."""
        await self.endpoint.close()

    async def _scores(self, request: reward_pb2.ScoreRequest, timeout_s: float) -> Mapping[str, Score]:
        items = decode_score_request(request)
        name = self.spec.name
        if self.spec.max_batch and len(items) > self.spec.max_batch:
            raise DataError(f"{len(items)} items in one request; scorer '{name}' takes {self.spec.max_batch}")
        if self.draining:
            raise EndpointUnavailable(f"scorer '{name}' is draining; ask again")
        if self.spec.max_concurrency and self._under_way >= self.spec.max_concurrency:
            raise EndpointBusy(f"scorer '{name}' has {self._under_way} requests under way and takes no more", ADVICE_S)
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
                scores = await self.endpoint.score(items, request_id=request_id, timeout_s=timeout_s)
        silent = Score(scorer=name, error_kind="malformed", reason="the scorer gave no score for this rollout")
        return {item: scores.get(item, silent) for item in items}

    async def _feed(
        self,
        items: AsyncIterator[reward_pb2.ScoreItem],
        judged: asyncio.Queue[types_pb2.Score | None],
        timeout_s: float,
    ) -> None:
        async def judge(item: reward_pb2.ScoreItem) -> None:
            response = await self.score(reward_pb2.ScoreRequest(request_id=item.id, items=[item]), timeout_s)
            judged.put_nowait(response.scores[0])

        async with asyncio.TaskGroup() as tasks:
            async for item in items:
                tasks.create_task(judge(item))
        judged.put_nowait(None)


def _encoded(item: str, score: Score) -> types_pb2.Score:
    try:
        return encode_score(item, score)
    except DataError as error:
        return encode_score(item, Score(scorer=score.scorer, error_kind="malformed", reason=str(error)))
