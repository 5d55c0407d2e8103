"""What a placement offers to a run, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from rlforge.cluster.specs import GeneratorSpec, LearnerSpec, RouterSpec, WorkerSpec
from rlforge.interfaces import Generator, Learner, RewardRouter
from rlforge.loops.collect import Collector


class Cluster(Protocol):
    """Makes started parts. Everything it made is gone after `close`, whatever happened between."""

    async def start(self) -> None:
        """Bring up what parts run on."""
        ...

    async def generators(self, specs: Mapping[str, Sequence[GeneratorSpec]]) -> Mapping[str, Generator]:
        """Started pools by name (`policy`, `judge`, …), one generator per spec."""
        ...

    async def learner(self, spec: LearnerSpec) -> Learner:
        """A started learner."""
        ...

    async def router(self, spec: RouterSpec, generators: Mapping[str, Generator] | None = None) -> RewardRouter:
        """A started router, whose scorers may judge with generators that are started already."""
        ...

    async def collector(self, spec: WorkerSpec, generators: Mapping[str, Generator], router: RewardRouter) -> Collector:
        """A collector over `cluster.rollout_workers` workers."""
        ...

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Within the body, the death of any part's process ends the body with ActorDied."""
        ...

    async def release(self, *parts: object) -> None:
        """Close parts of a stage that has ended and free their processes."""
        ...

    async def close(self) -> None:
        """Close every part; may be called twice."""
        ...
