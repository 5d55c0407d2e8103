"""What runs inside the actors: each holds one part and forwards calls to it. Nothing here knows Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rlforge.cluster.coalesce import Coalescer
from rlforge.cluster.line_server import LineServer, Method
from rlforge.cluster.messages import Address
from rlforge.cluster.specs import RouterSpec, WorkerSpec
from rlforge.generators.pool import GeneratorPool
from rlforge.interfaces import Generator, RewardRouter
from rlforge.processes import die_with_owner, keep_progress_bars_local, settle_heap
from rlforge.types import Group, GroupRequest, Reward, Rollout


class PartActor:
    """Holds one part and forwards calls to it."""

    def __init__(self, spec: Any, **dependencies: Any) -> None:
        die_with_owner()
        keep_progress_bars_local()
        self._part: Any = spec.build(**dependencies)
        methods = self.often()
        self._line = LineServer(methods) if methods else None

    async def pid(self) -> int:
        """Process id."""
        return os.getpid()

    async def start(self, towards: str) -> Address | None:
        """Start the part; the address of its line, for callers that reach the machine at `towards`."""
        await self._part.start()
        address = await self._line.open(towards) if self._line else None
        settle_heap()
        return address

    def often(self) -> Mapping[str, Method]:
        """What is called so often that it goes past Ray."""
        return {}

    async def beat(self) -> None:
        """The heartbeat. Raises ActorDied when the part lost a process of its own."""
        if check := getattr(self._part, "check", None):
            check()

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call an async method of the part."""
        return await getattr(self._part, method)(*args, **options)


class GeneratorActor(PartActor):
    """By this name the system knows a generator's process: `ray::GeneratorActor`."""

    def often(self) -> Mapping[str, Method]:
        """Completions."""
        return {"generate": self._part.generate}


class LearnerActor(PartActor):
    """`ray::LearnerActor`."""


class RouterActor(PartActor):
    """`ray::RouterActor`."""

    def __init__(self, spec: RouterSpec, generators: Mapping[str, Sequence[Generator]]) -> None:
        super().__init__(spec, generators={name: GeneratorPool(replicas) for name, replicas in generators.items()})

    def often(self) -> Mapping[str, Method]:
        """Rewards; rollouts that came together are judged together."""
        return {"reward": Coalescer[Rollout, Reward](self._part.reward).call}


class WorkerActor(PartActor):
    """`ray::WorkerActor`: a rollout worker, which works with parts in other actors."""

    def __init__(self, spec: WorkerSpec, generators: Mapping[str, Sequence[Generator]], router: RewardRouter) -> None:
        pools = {name: GeneratorPool(replicas) for name, replicas in generators.items()}
        super().__init__(spec, generators=pools, router=router)

    def often(self) -> Mapping[str, Method]:
        """Groups."""
        return {"collect": self._group}

    async def _group(self, request: GroupRequest) -> Group:
        (group,) = [group async for group in self._part.collect([request])]
        return group
