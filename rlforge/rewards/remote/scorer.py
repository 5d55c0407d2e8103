"""Asks a reward endpoint that somebody serves over gRPC or HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from pydantic import Field, model_validator

from rlforge.deadlines import deadline
from rlforge.errors import ConfigError, DataError, DeadlineExceeded, EndpointError, EndpointUnavailable, ExtensionError
from rlforge.interfaces import RewardEndpoint
from rlforge.rewards.remote.patience import Patience, PatientConfig, unscored
from rlforge.together import end
from rlforge.transports.config import EndpointConfig
from rlforge.types import Metrics, Rollout, Score

_SCHEMES = {"grpc": ("grpc:", "grpcs:"), "http": ("http:", "https:")}
_START_S = 60.0
"""Seconds that an endpoint may take to come up before a run starts: whoever starts one is still looking."""
_SLACK_S = 5.0
"""Beyond the endpoint's own time-out, for a transport that forgot it."""


class RemoteScorer:
    """Plays the Scorer role for a reward endpoint: batches, retries, and waits while it is down.

    Rollouts from any number of calls share requests: while all `concurrency` requests are under way the next ones pile
    up, and go out together.
    """

    class Config(PatientConfig, EndpointConfig):
        """An endpoint and how it is asked; `type` is `grpc` or `http`, as its address begins."""

        batch_size: int = Field(32, ge=1)
        """Rollouts in one request, at most; the endpoint may ask for fewer."""

        @model_validator(mode="after")
        def _of_one_kind(self) -> RemoteScorer.Config:
            expected = _SCHEMES.get(self.type)
            if expected and not self.address.startswith(expected):
                raise ValueError(f"a scorer of type '{self.type}' has an address that begins with {expected[0]}//")
            return self

    def __init__(self, config: Config, *, endpoint: RewardEndpoint | None = None) -> None:
        self.config = config
        self.name = config.label
        self._endpoint = endpoint
        self._patience = Patience(config)
        self._batch_size, self._concurrency = config.batch_size, config.concurrency
        self._waiting: deque[_Item] = deque()
        self._asking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect and learn how much may be asked at once.

        Raises ConfigError when the endpoint refuses us or does not come up.
        """
        self._endpoint = self._endpoint or _connected(self.config)
        try:
            async with deadline(_START_S, f"the endpoint of scorer '{self.name}' at {self.config.address}"):
                spec = await self._patience.ask(self._endpoint.describe)
        except (EndpointError, DeadlineExceeded) as error:
            await self.close()
            raise ConfigError(f"scorer '{self.name}': {error}. Is it served at {self.config.address}?") from error
        self._batch_size = min(self._batch_size, spec.max_batch or self._batch_size)
        self._concurrency = min(self._concurrency, spec.max_concurrency or self._concurrency)

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        if self._endpoint is None:
            raise ExtensionError(f"scorer '{self.name}' was asked before start() or after close()")
        items = [_item(rollout) for rollout in rollouts]
        if items and not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.extend(items)
        try:
            return list(await asyncio.gather(*(item.score for item in items)))
        finally:
            for item in items:
                item.score.cancel()

    def metrics(self) -> Metrics:
        """Totals since the start, `scorer_<name>/…`."""
        return self._patience.metrics()

    async def close(self) -> None:
        """Close the connection; what was not judged by then is unscored."""
        endpoint, self._endpoint = self._endpoint, None
        while self._waiting:
            self._waiting.popleft().settle(self._closed())
        await end(self._asking)
        if endpoint is not None:
            await endpoint.close()

    def _send(self) -> None:
        """Start as many requests as may be under way."""
        while self._waiting and len(self._asking) < self._concurrency:
            taken = [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]
            batch = [item for item in taken if not item.score.done()]  # nobody waits for a score that was cancelled
            if batch:
                task = asyncio.create_task(self._ask(batch))
                self._asking.add(task)
                task.add_done_callback(lambda task, batch=batch: self._asked(task, batch))

    def _asked(self, task: asyncio.Task[None], batch: Sequence[_Item]) -> None:
        self._asking.discard(task)
        failure = None if task.cancelled() else task.exception()
        for item in (item for item in batch if not item.score.done()):
            item.score.set_exception(failure) if failure else item.settle(self._closed())
        self._send()

    async def _ask(self, batch: Sequence[_Item]) -> None:
        """Settle every item of a batch."""
        began, request_id = perf_counter(), uuid.uuid4().hex
        items = {item.id: item.rollout for item in batch}  # the same attempt asked for twice is sent once
        try:
            scores = await self._patience.ask(lambda: self._once(items, request_id))
        except (EndpointError, DeadlineExceeded) as fault:
            scores = dict.fromkeys(items, unscored(self.name, fault))
        except DataError as fault:
            if len(items) > 1:  # one rollout cannot travel: the others can, in one request at a time as before
                half = len(batch) // 2
                await self._ask(batch[:half])
                await self._ask(batch[half:])
                return
            scores = dict.fromkeys(items, Score(scorer=self.name, error_kind="malformed", reason=str(fault)))
        self._settle(batch, scores, perf_counter() - began)

    async def _once(self, items: Mapping[str, Rollout], request_id: str) -> Mapping[str, Score]:
        """One request; raises what the endpoint raises, and EndpointUnavailable once we are closed."""
        if self._endpoint is None:
            raise EndpointUnavailable(f"scorer '{self.name}' is closed")
        limit_s = self.config.timeout_s
        async with deadline(limit_s + _SLACK_S, f"scorer '{self.name}' to judge {len(items)} rollouts"):
            return await self._endpoint.score(items, request_id=request_id, timeout_s=limit_s)

    def _settle(self, batch: Sequence[_Item], scores: Mapping[str, Score], seconds: float) -> None:
        sent = {item.id for item in batch}
        self._patience.counted["ignored_answers"] += sum(id not in sent for id in scores)
        for item in batch:
            item.settle(replace(scores.get(item.id) or self._missing(item), scorer=self.name, seconds=seconds))

    def _missing(self, item: _Item) -> Score:
        why = f"the answer of {self.config.address} has no score for item '{item.id}'; it must have one for each"
        return Score(scorer=self.name, error_kind="missing", reason=why, retryable=True)

    def _closed(self) -> Score:
        return Score(scorer=self.name, error_kind="cancelled", reason="the scorer was closed")


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A rollout on its way to the endpoint, and the score that somebody waits for."""

    id: str
    rollout: Rollout
    score: asyncio.Future[Score]

    def settle(self, score: Score) -> None:
        """Give the one who waits the score, if anybody still does."""
        if not self.score.done():
            self.score.set_result(score)


def _item(rollout: Rollout) -> _Item:
    return _Item(item_id(rollout), rollout, asyncio.get_running_loop().create_future())


def item_id(rollout: Rollout) -> str:
    """The id under which a rollout is judged: the same at every attempt, another for any other rollout of the run.

    A rollout's own id comes again in the next evaluation; what was sampled, and by which policy, tells the two apart.
    """
    told = hashlib.blake2b(digest_size=8)
    for part in rollout.walk():
        told.update(repr((part.id, part.key.group, part.seed, part.stop_reason.value)).encode())
        for turn in part.turns:
            said = turn.message  # told by what it says: writing down the whole message takes longer
            facts = (turn.completion.newest_version, said.text, said.tool_calls, turn.observation)
            told.update(repr(facts).encode())
    return f"{rollout.id}/{told.hexdigest()}"


def _connected(config: EndpointConfig) -> RewardEndpoint:
    # A transport brings gRPC or httpx with it, which `import rlforge` must not.
    from rlforge.transports.connect import connect_reward

    return connect_reward(config)
