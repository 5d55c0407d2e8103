"""Asks every scorer that has a say and combines their scores into one reward per rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import Field, model_validator

from rlforge.config import BaseConfig, Part, PartConfig
from rlforge.errors import RlforgeError
from rlforge.interfaces import Generator, Measured, Renderer, UsesGenerators
from rlforge.registry import SCORERS
from rlforge.rewards.asking import Asked
from rlforge.rewards.config import ScorerConfig
from rlforge.together import each_to_its_end
from rlforge.types import FAULTS, Metrics, Reward, Rollout, Score


class Router:
    """Implements `interfaces.RewardRouter`.

    The reward is the sum of weight x value over the scorers that judge the task's source. A gate that closes makes
    it 0; a weighted scorer or a gate that stays unscored makes it None; a scorer of weight 0 never changes it.
    """

    class Config(BaseConfig):
        """Which scorers there are, in the order in which gates apply."""

        scorers: list[Annotated[PartConfig, Part(SCORERS)]]
        """Scorers in order; a gate stands before what it guards."""
        max_unscored: float = Field(0.2, ge=0, le=1)
        """Share of the rollouts of a step or an evaluation that may stay unscored; above it the run stops."""
        batch_size: int = Field(256, ge=1)
        """Rollouts in one call of a scorer, at most."""
        concurrency: int = Field(64, ge=1)
        """Calls of one scorer under way at once, at most."""

        @model_validator(mode="after")
        def _sound(self) -> Router.Config:
            for part in self.scorers:
                if not isinstance(part, ScorerConfig):
                    raise ValueError(
                        f"scorer '{part.type}': its Config must derive from ScorerConfig (rewards/config.py)"
                    )
            labels = [part.label for part in self.parts]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"two scorers are called '{twice[0]}'; give each a `name` of its own")
            if all(part.weight == 0 for part in self.parts):
                raise ValueError("no scorer has a weight other than 0: every reward would be 0; add one that counts")
            return self

        @property
        def parts(self) -> list[ScorerConfig]:
            """The scorers' configurations by the base class they share."""
            return cast(list[ScorerConfig], self.scorers)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._asked = [Asked(part, config.concurrency) for part in config.parts]

    def use(self, generators: Mapping[str, Generator], renderer: Callable[[], Renderer]) -> None:
        """Hand generators of the run to the scorers that name one. Raises ConfigError when there is none so called."""
        for asked in self._asked:
            if named_generator(asked.config) and isinstance(asked.scorer, UsesGenerators):
                asked.scorer.use(generators, renderer)

    async def start(self) -> None:
        """Start every scorer. Raises the first one's error when it can never work; the others are closed again."""
        try:
            await each_to_its_end(asked.start() for asked in self._asked)
        except BaseException:
            with suppress(RlforgeError):
                await self.close()
            raise

    async def reward(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward per rollout, in order. Scorers between two gates are asked at once."""
        cases = [_Case(rollout, []) for rollout in rollouts]
        for stage in _stages(self._asked):
            await asyncio.gather(*(self._ask(asked, [case for case in cases if case.open]) for asked in stage))
            for case in cases:
                case.settle()
        return [case.reward() for case in cases]

    async def metrics(self) -> Metrics:
        """What scorers counted since the start: `scorer_<name>/…`."""
        measured = [asked.scorer.metrics() for asked in self._asked if isinstance(asked.scorer, Measured)]
        return {key: value for metrics in measured for key, value in metrics.items()}

    async def close(self) -> None:
        """Close every scorer. Raises the first one's error after all have been asked to."""
        await each_to_its_end(asked.close() for asked in self._asked)

    async def _ask(self, asked: Asked, cases: Sequence[_Case]) -> None:
        mine = [case for case in cases if asked.config.judges(case.rollout)]
        size = self.config.batch_size
        batches = [mine[start : start + size] for start in range(0, len(mine), size)]
        answers = await asyncio.gather(*(asked.scores([case.rollout for case in batch]) for batch in batches))
        for batch, scores in zip(batches, answers, strict=True):
            for case, score in zip(batch, scores, strict=True):
                case.opinions.append((asked.config, score))


def named_generator(config: ScorerConfig) -> str:
    """Name of the generator that a scorer judges with; empty where it needs none."""
    return str(getattr(config, "generator", ""))


def _stages(scorers: Sequence[Asked]) -> list[list[Asked]]:
    """Runs of scorers that each end with a gate (the last one perhaps without)."""
    stages: list[list[Asked]] = [[]]
    for asked in scorers:
        stages[-1].append(asked)
        if asked.config.gate is not None:
            stages.append([])
    return stages


@dataclass
class _Case:
    """One rollout before the router: what was said about it so far, and whether more needs to be asked."""

    rollout: Rollout
    opinions: list[tuple[ScorerConfig, Score]]
    unscored: str = ""
    """Why no reward can be given; empty while one can."""
    closed: str = ""
    """Which gate closed; empty while none did."""

    def __post_init__(self) -> None:
        if self.rollout.stop_reason in FAULTS:
            detail = f": {self.rollout.error}" if self.rollout.error else ""
            self.unscored = f"the rollout ended with {self.rollout.stop_reason.value}{detail}"

    @property
    def open(self) -> bool:
        return not self.unscored and not self.closed

    def settle(self) -> None:
        """Take account of a finished stage: a fault of a scorer that counts, or a gate that closed."""
        for config, score in self.opinions:
            if score.value is None and not config.shadow:
                self.unscored = self.unscored or f"scorer '{config.label}': {score.error_kind}: {score.reason}"
            elif score.value is not None and config.gate is not None and config.clipped(score.value) < config.gate:
                self.closed = f"gate '{config.label}' closed: {score.value:g} < {config.gate:g}"

    def reward(self) -> Reward:
        """The reward, once every stage has been settled."""
        scores = tuple(score for _, score in self.opinions)
        counting = [(config, score) for config, score in self.opinions if not config.shadow]
        if self.unscored or not counting:
            why = self.unscored or f"no scorer that counts judges source '{self.rollout.task.source}'"
            return Reward(value=None, scores=scores, reason=why)
        if self.closed:
            return Reward(value=0.0, scores=scores, reason=self.closed)
        total = sum(
            config.weight * config.clipped(score.value) for config, score in counting if score.value is not None
        )
        return Reward(value=float(total), scores=scores)
