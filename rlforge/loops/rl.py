"""The reinforcement-learning loop: collect, credit, learn, publish.

Produces policy versions; consumes tasks; waits for every group of a step (synchronous), whose members each have a
deadline; unblocked by the last of them. A part that dies ends the wait, see `cluster`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from rlforge.config import Part, PartConfig, build
from rlforge.data.ledger import Entry
from rlforge.data.mixture import Mixture
from rlforge.errors import ConfigError, DataError, WeightSyncError
from rlforge.interfaces import Algorithm
from rlforge.loops.evaluate import Play
from rlforge.loops.measure import rollout_metrics
from rlforge.loops.sampling import SamplingConfig
from rlforge.loops.stage import StageConfig
from rlforge.loops.stage_run import StageRun
from rlforge.registry import ALGORITHMS
from rlforge.rewards.guard import UnscoredGuard
from rlforge.rewards.router import Router
from rlforge.tokens.trajectories import trajectories
from rlforge.types import Batch, Group, GroupRequest, Task


class RLConfig(StageConfig):
    """A stage that learns from rewards."""

    type: Literal["rl"] = "rl"  # pyright: ignore[reportIncompatibleVariableOverride]
    groups_per_step: int = Field(default=32, ge=1)
    """Tasks attempted per step."""
    group_size: int = Field(default=8, ge=1)
    """Attempts at each task; they share a baseline."""
    sampling: SamplingConfig = SamplingConfig()
    """How the policy samples in training."""
    algorithm: Annotated[PartConfig, Part(ALGORITHMS)] = Field(default="grpo", validate_default=True)  # type: ignore[assignment]
    """How rewards become advantages, and which objective learns from them."""
    rewards: Router.Config | None = None
    """Scorers of this stage; unset: the recipe's."""
    group_deadline_s: float = Field(default=600.0, gt=0)
    """Seconds a group may take; a member not done by then ends with `timeout`, unscored."""

    @property
    def play(self) -> Play:
        """How its rollouts are played, evaluations included where they say nothing else."""
        sampling = self.sampling
        return Play(max_new_tokens=sampling.max_new_tokens, stop=sampling.stop, group_deadline_s=self.group_deadline_s)


async def run_rl(config: RLConfig, run: StageRun, tasks: Mixture) -> None:
    """The whole stage, synchronously: each step learns from rollouts of exactly the weights it starts from.

    Raises RunError when a resumed stage learned from other tasks than the data now has in their place.
    """
    algorithm: Algorithm = build(ALGORITHMS, config.algorithm)
    guard = UnscoredGuard(max_unscored=run.parts.max_unscored)
    learner, collector, lap = run.parts.learner, run.parts.collector, run.lap
    if collector is None:
        raise ConfigError(
            f"stage '{config.name}' learns from rewards, but the recipe names no scorer; add rewards.scorers"
        )
    run.ledger.check(0, (run.ledger.step or 0) * config.groups_per_step, tasks)
    async for step in run.steps():
        await run.publish()
        with lap("collect"):
            groups = await collector.collect(group_requests(config, tasks, step, run.version, run.parts.seed))
        refuse_other_versions(groups, run.version)
        guard.check([rollout.reward for group in groups for rollout in group.rollouts], during=f"step {step}")
        async with run.keeping(step, groups):
            with lap("annotate"):
                batch = await learner.annotate(policy_batch(groups), algorithm.needs)
            batch = algorithm.credit(batch)
            with lap("learn"):
                metrics = await learner.step(batch)
        run.ledger.record(step, [ledger_entry(group) for group in groups])
        run.record(
            rollout_metrics(groups)
            | batch.metrics
            | metrics
            | await run.generator_metrics()
            | await run.scorer_metrics()
        )


def group_requests(config: RLConfig, tasks: Mixture, step: int, version: int, seed: int) -> list[GroupRequest]:
    """The groups of step `step` (from 1): a pure function of the step, so that a resumed run asks for the same."""
    sampling = config.sampling.sampling()
    first = (step - 1) * config.groups_per_step
    drawn = [tasks.at(position) for position in range(first, first + config.groups_per_step)]
    return [
        GroupRequest(
            task=_task(draw.item),
            group=f"{draw.position}",
            size=config.group_size,
            sampling=sampling,
            seed=seed,
            epoch=draw.epoch,
            policy_version=version,
            deadline_s=config.group_deadline_s,
        )
        for draw in drawn
    ]


def ledger_entry(group: Group) -> Entry:
    """What became of one draw of the stream."""
    return Entry(
        position=int(group.request.group),
        task_id=group.request.task.id,
        epoch=group.request.epoch,
        attempts=tuple(rollout.key.attempt for rollout in group.rollouts),
        outcome="trained" if any(rollout.scored for rollout in group.rollouts) else "dropped",
    )


def policy_batch(groups: Sequence[Group]) -> Batch:
    """Every trajectory of every scored rollout; the unscored are left out, here and for good."""
    scored = [rollout for group in groups for rollout in group.rollouts if rollout.scored]
    made = tuple(trajectory for rollout in scored for trajectory in trajectories(rollout))
    metrics = {"rollouts/trajectories_mean": len(made) / len(scored)} if scored else {}
    return Batch(trajectories=made, objectives={}, metrics=metrics)


def refuse_other_versions(groups: Sequence[Group], version: int) -> None:
    """Synchronous training learns from tokens of the current weights only. Raises WeightSyncError on any other."""
    for rollout in (rollout for group in groups for rollout in group.rollouts):
        for turn in rollout.turns:
            if any(
                v != version for v in (turn.completion.oldest_version, turn.completion.newest_version) if v is not None
            ):
                raise WeightSyncError(
                    f"rollout {rollout.id} has tokens of policy versions {turn.completion.oldest_version} to "
                    f"{turn.completion.newest_version}, but the learner holds {version}; a generator missed a load"
                )


def _task(item: object) -> Task:
    if not isinstance(item, Task):
        raise DataError(f"an rl stage needs tasks, but a source gave a {type(item).__name__}: {item!r:.200}")
    return item
