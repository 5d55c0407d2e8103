"""All parts in this process: for tests, debugging, and machines where Ray is not wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from rlforge.cluster.config import ClusterConfig
from rlforge.cluster.specs import GeneratorSpec, LearnerSpec, RouterSpec, WorkerSpec
from rlforge.deadlines import deadline
from rlforge.generators.pool import GeneratorPool
from rlforge.interfaces import Generator, Learner, RewardRouter
from rlforge.loops.collect import Collector


class InProcess:
    """Plays the Cluster role with plain objects on one event loop."""

    def __init__(self, config: ClusterConfig, *, run_id: str) -> None:
        self._config = config
        self._parts: list[Any] = []
        self._one_start = asyncio.Lock()  # transformers loads one model at a time in a process

    async def start(self) -> None:
        """Nothing to bring up."""

    async def generators(self, specs: Mapping[str, Sequence[GeneratorSpec]]) -> Mapping[str, Generator]:
        """Started pools by name."""
        pools = {name: GeneratorPool([spec.build() for spec in replicas]) for name, replicas in specs.items()}
        for name, pool in pools.items():
            await self._started(pool, f"generator '{name}'")
        return pools

    async def learner(self, spec: LearnerSpec) -> Learner:
        """A started learner."""
        return await self._started(spec.build(), "learner")

    async def router(self, spec: RouterSpec, generators: Mapping[str, Generator] | None = None) -> RewardRouter:
        """A started router."""
        return await self._started(spec.build(generators), "reward router")

    async def collector(self, spec: WorkerSpec, generators: Mapping[str, Generator], router: RewardRouter) -> Collector:
        """A collector over workers on this event loop."""
        workers = [spec.build(generators, router) for _ in range(self._config.rollout_workers)]
        return Collector([await self._started(each, f"rollout worker {n}") for n, each in enumerate(workers)])

    def watched(self) -> AbstractAsyncContextManager[None]:
        """There is no other process to watch."""
        return nullcontext()

    async def release(self, *parts: object) -> None:
        """Close parts of a stage that has ended."""
        every = [one for part in parts for one in (part.workers if isinstance(part, Collector) else [part])]
        for part in (part for part in every if part in self._parts):
            self._parts.remove(part)
            await part.close()  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Close whatever is still open, last made first."""
        while self._parts:
            await self._parts.pop().close()

    async def _started(self, part: Any, name: str) -> Any:
        self._parts.append(part)  # before starting, so that a failed start is closed too
        async with self._one_start, deadline(self._config.start_deadline_s, f"{name} to start"):
            await part.start()
        return part
