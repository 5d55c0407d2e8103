"""How many items a second a reward endpoint judges, reached as training reaches it."""

from __future__ import annotations

import asyncio
import time
import uuid
from functools import partial

from rlforge.checks.load import Load, alone_and_together
from rlforge.checks.properties import Property
from rlforge.checks.reward.case import RewardCase
from rlforge.errors import EndpointBusy
from rlforge.interfaces import RewardEndpoint
from rlforge.together import all_or_none
from rlforge.transports.connect import connect_reward


class _Asker:
    """Asks for scores until time is up."""

    def __init__(self, case: RewardCase, endpoint: RewardEndpoint, until: float) -> None:
        self._case = case
        self._endpoint = endpoint
        self._until = until
        self.items = 0
        self.request_s: list[float] = []

    async def ask(self) -> None:
        """One request after the other."""
        case = self._case
        while time.perf_counter() < self._until:
            name = uuid.uuid4().hex
            items = {f"{name}/{n}": rollout for n, rollout in enumerate(case.rollouts[: case.batch])}
            began = time.perf_counter()
            try:
                scores = await self._endpoint.score(items, request_id=name, timeout_s=case.place.patience_s)
            except EndpointBusy as busy:
                await asyncio.sleep(min(busy.retry_after_s or 0.05, 0.5))
                continue
            self.request_s.append(time.perf_counter() - began)
            self.items += len(scores)


async def bears_the_load(case: RewardCase) -> str:
    """Requests one after another, many at once, without a fault; busy is none."""
    return await alone_and_together(partial(_measured, case), case.loads, at_once=case.together, seconds=case.seconds)


async def _measured(case: RewardCase, requests: int, seconds: float) -> Load:
    endpoint = connect_reward(case.config)
    began = time.perf_counter()
    asker = _Asker(case, endpoint, began + seconds)
    asking = [asyncio.create_task(asker.ask()) for _ in range(requests)]
    try:
        await all_or_none(asking)
    finally:
        await endpoint.close()
    counts = {"requests": len(asker.request_s), "items": asker.items}
    return Load(at_once=requests, seconds=time.perf_counter() - began, counts=counts, step_s=tuple(asker.request_s))


PROPERTIES = (
    Property(
        "bears the load",
        bears_the_load,
        why="a training step sends all its rollouts at once; slow rewards hold it up",
        remedy="look for what requests share (a lock, a file, a GPU), or say how many run at once in max_concurrency",
        limit_s=600.0,
    ),
)
"""In the order in which they are examined."""
