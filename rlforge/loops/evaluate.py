"""Evaluation is collecting without learning: held-out tasks, greedy accuracy, pass@k, each with an interval."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

from pydantic import Field

from rlforge.config import BaseConfig, FileName, Part, PartConfig
from rlforge.data.mixture import refuse_equal_names
from rlforge.errors import DataError
from rlforge.interfaces import Source
from rlforge.loops.collect import Collector
from rlforge.loops.intervals import Interval, mean_interval, pass_at_k, wilson
from rlforge.registry import SOURCES
from rlforge.rewards.guard import UnscoredGuard
from rlforge.runlog.evaluations import TaskResult
from rlforge.seeds import derive_seed
from rlforge.types import Group, GroupRequest, Metrics, Reward, Sampling, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Play:
    """How rollouts of a stage are played: what its evaluations do too where they say nothing else."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    group_deadline_s: float = 600.0


class EvaluationConfig(BaseConfig):
    """A named measurement on held-out tasks."""

    name: FileName = "held_out"
    """Its metrics are `eval/<name>/…`; each of a stage has its own."""
    data: list[Annotated[PartConfig, Part(SOURCES)]] = Field(min_length=1)
    """Held-out tasks; sources are walked in order, not mixed."""
    every: int = Field(default=20, ge=1)
    """Steps between evaluations; before step 0 and after the last step always."""
    limit: int = Field(default=256, ge=1)
    """At most so many tasks."""
    samples: int = Field(default=0, ge=0)
    """Sampled attempts per task for pass@k besides the greedy one; 0 for none."""
    pass_at: tuple[int, ...] = (1, 4)
    """The ks of pass@k, each at most `samples`."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the sampled attempts."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest completion, in tokens; unset: as in the stage's `sampling`, 256 where it has none."""
    stop: tuple[str, ...] | None = None
    """Strings that end a completion; unset: those of the stage's `sampling`, none where it has none."""
    group_deadline_s: float | None = Field(default=None, gt=0)
    """Seconds the attempts at a task may take; what is not done by then is unscored. Unset: as in the stage, 600 where
    it does not say."""
    success_at: float = 1.0
    """A rollout succeeds when its reward is at least this."""

    def play(self, stage: Play) -> Play:
        """How its rollouts are played: as it says, else as the stage does."""
        said = self.model_dump(include={"max_new_tokens", "stop", "group_deadline_s"}, exclude_none=True)
        return replace(stage, **said)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What an evaluation found."""

    name: str
    metrics: Metrics
    results: tuple[TaskResult, ...]


class Evaluator:
    """Runs one configured evaluation whenever it is asked to."""

    def __init__(
        self,
        config: EvaluationConfig,
        sources: Sequence[Source],
        collector: Collector,
        seed: int,
        max_unscored: float = 1.0,
        stage: Play = Play(),
    ) -> None:
        """`max_unscored` is the share of its rollouts that may stay unscored: beyond it survivors say nothing.

        Raises DataError for two sources of one name, and for items that are no tasks.
        """
        refuse_equal_names(sources)
        self.config = config
        self._play = config.play(stage)
        self._guard = UnscoredGuard(max_unscored=max_unscored)
        self._tasks = list(islice(_tasks(sources, config.name), config.limit))
        self._collector = collector
        self._seed = derive_seed(seed, "evaluation", config.name)

    async def evaluate(self, policy_version: int) -> Evaluation:
        """Greedy attempts at every task, and `samples` sampled ones for pass@k.

        Raises TooManyUnscored when more of either stay unscored than may.
        """
        greedy = self._requests("greedy", 1, 0.0)
        sampled = self._requests("sampled", self.config.samples, self.config.temperature)
        began = time.monotonic()
        groups = await self._collector.collect(
            [replace(request, policy_version=policy_version) for request in (*greedy, *sampled)]
        )
        first, rest = groups[: len(greedy)], groups[len(greedy) :]
        for kind, played in (("greedy", first), ("sampled", rest)):
            rewards = [rollout.reward for group in played for rollout in group.rollouts]
            self._guard.check(rewards, during=f"evaluation '{self.config.name}', {kind} attempts")
        results = (*self._results(first, greedy=True), *self._results(rest, greedy=False))
        metrics = self._metrics(results, time.monotonic() - began)
        return Evaluation(name=self.config.name, metrics=metrics, results=results)

    def _requests(self, kind: str, size: int, temperature: float) -> list[GroupRequest]:
        if size == 0:
            return []
        play = self._play
        sampling = Sampling(temperature=temperature, max_new_tokens=play.max_new_tokens, stop=play.stop)
        return [
            GroupRequest(
                task=task,
                group=f"{self.config.name}/{kind}/{task.id}",
                size=size,
                sampling=sampling,
                seed=self._seed,
                deadline_s=play.group_deadline_s,
            )
            for task in self._tasks
        ]

    def _results(self, groups: Sequence[Group], *, greedy: bool) -> Iterator[TaskResult]:
        for group in groups:
            for rollout in group.rollouts:
                reward = rollout.reward.value if rollout.reward else None
                yield TaskResult(
                    task_id=rollout.task.id,
                    source=rollout.task.source,
                    member=-1 if greedy else rollout.key.member,
                    reward=reward,
                    success=None if reward is None else reward >= self.config.success_at,
                    reply=rollout.text,
                    reason=_said(rollout.reward),
                )

    def _metrics(self, results: Sequence[TaskResult], seconds: float) -> Metrics:
        greedy = [result for result in results if result.member < 0]
        scored = [result for result in greedy if result.success is not None]
        metrics: Metrics = {
            "tasks": float(len(self._tasks)),
            "unscored_share": 1.0 - len(scored) / max(1, len(greedy)),
            "seconds_s": seconds,
        }
        if scored:
            metrics |= _with_interval("accuracy", wilson([bool(result.success) for result in scored]))
            metrics |= _with_interval("reward_mean", mean_interval([result.reward or 0.0 for result in scored]))
        for k in (k for k in self.config.pass_at if k <= self.config.samples):
            if chances := pass_at_k(_successes(results), k):
                metrics |= _with_interval(f"pass_at_{k}", mean_interval(chances))
        return {f"eval/{self.config.name}/{key}": value for key, value in metrics.items()}


def _with_interval(key: str, interval: Interval) -> Metrics:
    return {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}


def _said(reward: Reward | None) -> str:
    """Why there is no reward or which gate closed, and then whatever each scorer said that is not in it yet."""
    if reward is None:
        return ""
    said = [f"{s.scorer}: {s.reason}" for s in reward.scores if s.reason and s.reason not in reward.reason]
    return "; ".join([reward.reason, *said] if reward.reason else said)


def _successes(results: Sequence[TaskResult]) -> list[list[bool]]:
    by_task: dict[str, list[bool]] = {}
    for result in results:
        if result.member >= 0 and result.success is not None:
            by_task.setdefault(result.task_id, []).append(result.success)
    return list(by_task.values())


def _tasks(sources: Sequence[Source], name: str) -> Iterator[Task]:
    for source in sources:
        for index in range(len(source)):
            item = source[index]
            if not isinstance(item, Task):
                raise DataError(
                    f"evaluation '{name}': source '{source.name}' gives a {type(item).__name__} ('{item.id}'); "
                    "an evaluation needs tasks"
                )
            yield item
