"""What a placement offers to a run, whatever carries it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from rlforge.cluster.specs import GeneratorSpec, LearnerSpec, RouterSpec, WorkerSpec
from rlforge.errors import ConfigError
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


def generator_gpus(gpus: int, spreads: Sequence[int]) -> list[float]:
    """GPUs of each replica, beside one learner; `spreads` says over how many each one wants to spread.

    Whole ones where a replica spreads over several, or where there are enough; else as few GPUs as can be are shared,
    in equal parts, each of one card. All 0 where there are no GPUs. Raises ConfigError when there are too few.

    Example: two replicas on two GPUs get 1.0 and 0.5; the learner has the other half.
    """
    alone, share = _split(gpus, spreads, learner=False)
    small = iter([1.0] * alone + [share] * len(spreads))
    return [next(small) if spread == 1 or not gpus else float(spread) for spread in spreads]


def learner_gpus(gpus: int, spreads: Sequence[int]) -> float:
    """GPU of the learner beside replicas that spread so. Raises ConfigError when they leave it none."""
    alone, share = _split(gpus, spreads, learner=True)
    return 1.0 if alone > spreads.count(1) else share


def _split(gpus: int, spreads: Sequence[int], *, learner: bool) -> tuple[int, float]:
    """How many of the parts that want one GPU have it whole, and what share of one the others get."""
    if not gpus:
        return 0, 0.0
    small = spreads.count(1)
    left = gpus - sum(spread for spread in spreads if spread > 1)
    if left < (1 if small or learner else 0):
        raise ConfigError(_too_few(gpus, spreads, learner))
    crowd = math.ceil((small + 1) / max(left, 1))  # parts on the fullest GPU
    if crowd == 1:
        return small + 1, 1.0
    shared = math.ceil((small + 1 - left) / (crowd - 1))
    return left - shared, 10_000 // crowd / 10_000  # Ray counts in ten thousandths: rounded up, they would not fit


def _too_few(gpus: int, spreads: Sequence[int], learner: bool) -> str:
    whole = sum(spread for spread in spreads if spread > 1)
    others = " and ".join(["the other generators"] * (1 in spreads) + ["the learner"] * learner)
    also = f", and {others} at least one more" if others else ""
    return (
        f"placing the parts of a run on {gpus} GPUs: tensor-parallel generators need {whole} whole ones{also}; lower "
        "their tensor_parallel or replicas, or use a machine with more GPUs"
    )
