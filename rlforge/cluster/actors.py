"""What runs inside the actors: each holds one part and forwards calls to it. Nothing here knows Ray."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from rlforge.cluster.coalesce import as_they_finish, in_batches, packed, unpacked
from rlforge.cluster.specs import RouterSpec, WorkerSpec
from rlforge.generators.pool import GeneratorPool
from rlforge.interfaces import Generator, RewardRouter
from rlforge.processes import die_with_owner, keep_progress_bars_local, settle_heap
from rlforge.types import GenerateRequest, GroupRequest


class PartActor:
    """Holds one part and forwards calls to it."""

    def __init__(self, spec: Any, **dependencies: Any) -> None:
        die_with_owner()
        keep_progress_bars_local()
        self._part: Any = spec.build(**dependencies)

    async def pid(self) -> int:
        """Process id."""
        return os.getpid()

    async def start(self) -> None:
        """Start the part."""
        await self._part.start()
        settle_heap()

    async def beat(self) -> None:
        """The heartbeat. Raises ActorDied when the part lost a process of its own."""
        if check := getattr(self._part, "check", None):
            check()

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call an async method of the part."""
        return await getattr(self._part, method)(*args, **options)


class GeneratorActor(PartActor):
    """By this name the system knows a generator's process: `ray::GeneratorActor`."""

    async def generate_many(self, packed_requests: bytes) -> AsyncIterator[bytes]:
        """(index, completion or error) of packed requests as they finish, several to a message."""
        requests: list[GenerateRequest] = unpacked(packed_requests)
        async for batch in in_batches(as_they_finish([self._part.generate(request) for request in requests])):
            yield packed(batch)


class LearnerActor(PartActor):
    """`ray::LearnerActor`."""


class RouterActor(PartActor):
    """`ray::RouterActor`."""

    def __init__(self, spec: RouterSpec, generators: Mapping[str, Sequence[Generator]]) -> None:
        super().__init__(spec, generators={name: GeneratorPool(replicas) for name, replicas in generators.items()})

    async def reward_many(self, packed_rollouts: bytes) -> bytes:
        """Packed rewards of packed rollouts."""
        return packed(await self._part.reward(unpacked(packed_rollouts)))


class WorkerActor:
    """Holds a rollout worker, which works with parts in other actors."""

    def __init__(self, spec: WorkerSpec, generators: Mapping[str, Sequence[Generator]], router: RewardRouter) -> None:
        die_with_owner()
        self._worker = spec.build({name: GeneratorPool(replicas) for name, replicas in generators.items()}, router)

    async def pid(self) -> int:
        """Process id."""
        return os.getpid()

    async def start(self) -> None:
        """Start the worker."""
        await self._worker.start()
        settle_heap()

    async def close(self) -> None:
        """Close the worker."""
        await self._worker.close()

    async def beat(self) -> None:
        """The heartbeat."""

    async def collect(self, packed_requests: bytes) -> AsyncIterator[bytes]:
        """Finished groups, several to a message."""
        requests: list[GroupRequest] = unpacked(packed_requests)
        async for groups in in_batches(self._worker.collect(requests)):
            yield packed(groups)
