"""Credit by comparison with the group: one reward per rollout in, one advantage for all its sampled tokens out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from rlforge.algorithms.advantages import RELATIVE_TOLERANCE, GroupAdvantages
from rlforge.config import BaseConfig, PartConfig
from rlforge.errors import LearnerError
from rlforge.types import Batch, KLPenalty, Metrics, Objective, Trajectory

POLICY = "policy"
"""Objective of the trajectories that credit is for; all others pass through as they are."""

AdvantageFunction: TypeAlias = Callable[[Tensor, Tensor], GroupAdvantages]
"""`(rewards [R], groups [R]) -> GroupAdvantages`."""


class KLConfig(BaseConfig):
    """How far the policy may drift from the reference model, as a term of the loss."""

    kind: Literal["k1", "k2", "k3"] = "k3"
    """Estimate: k3 is unbiased and never negative; k2 has the gradient of the true divergence; k1 restrains nothing
    on-policy and is there to compare."""
    coefficient: float = Field(default=0.0, ge=0)
    """Factor of the term; 0 leaves it out, and no reference model is loaded. 0.001 to 0.05 are usual."""

    def penalty(self) -> KLPenalty | None:
        """The term, or None when its factor is 0."""
        return KLPenalty(kind=self.kind, coefficient=self.coefficient) if self.coefficient else None


class GroupConfig(PartConfig):
    """What algorithms with a group baseline share."""

    reduction: Literal[
        "token_mean",
        "per_prompt_token_mean",
        "sequence_mean_token_mean",
        "sequence_mean_token_sum",
        "constant_length",
    ] = "token_mean"
    """How losses of tokens become one: the mean over all tokens of the step treats long and short answers alike."""
    length: int | None = Field(default=None, gt=0)
    """Divisor in tokens under `constant_length`, and only there: the longest completion allowed."""
    credit: Literal["outcome", "turns"] = "outcome"
    """`outcome` gives all tokens of a rollout one advantage. `turns` gives each turn what came of it: the rewards of
    the world from that turn on, compared with what the other members had from that turn on."""
    discount: float = Field(default=1.0, gt=0, le=1)
    """Under `turns`, a reward counts this much less for every turn that lies between."""
    truncated: Literal["learn", "leave_out"] = "learn"
    """Whether rollouts that a limit cut short (max_turns, max_tokens, context_overflow) are learned from with the
    reward they got, or leave their group like unscored ones: what they would have come to is not known."""
    kl: KLConfig = KLConfig()
    """KL term against the reference model; off as shipped: a verifiable reward needs none."""

    @model_validator(mode="after")
    def _length_goes_with_constant_length(self) -> Self:
        if (self.reduction == "constant_length") != (self.length is not None):
            raise ValueError(
                f"reduction={self.reduction} with length={self.length}: constant_length divides by length and no other "
                "reduction does; hint: set both, with length = max_new_tokens, or neither"
            )
        return self

    @model_validator(mode="after")
    def _discount_goes_with_turns(self) -> Self:
        if self.credit == "outcome" and self.discount != 1:
            raise ValueError(f"discount={self.discount:g} under credit: outcome, which has none; hint: credit: turns")
        return self

    @property
    def how(self) -> dict[str, Any]:
        """The keyword arguments of `credit_groups` that these settings are."""
        discount = self.discount if self.credit == "turns" else None
        return {"discount": discount, "leave_out_truncated": self.truncated == "leave_out"}

    @property
    def needs(self) -> frozenset[str]:
        """What the learner must annotate first."""
        return frozenset({"reference_logprobs"}) if self.kl.coefficient else frozenset()

    def objective(self, loss: str, **options: float | None) -> Objective:
        """The policy's objective: `loss` with those options that are set, and the shared settings."""
        return Objective(
            loss=loss,
            options={name: value for name, value in options.items() if value is not None},
            reduction=self.reduction,
            reduction_options={} if self.length is None else {"length": self.length},
            kl=self.kl.penalty(),
        )


def credit_groups(
    batch: Batch,
    objective: Objective,
    advantages: AdvantageFunction,
    *,
    discount: float | None = None,
    leave_out_truncated: bool = False,
) -> Batch:
    """Give every sampled token the advantage of its rollout, or of its turn, and leave unscored rollouts out.

    Left out, not trained on as 0: the step is then the one it would have been had they not been drawn. A rollout
    counts once in its group however many trajectories it forked into. Raises LearnerError when the trajectories of
    one rollout disagree on its reward.

    With a `discount`, turn t of a rollout is worth `Σ_{k>=t} discount^(k-t) r_k`, where `r_k` is what the world gave
    for turn k, and what the reward has beyond their sum (other scorers) falls on the last turn. It is compared with the
    same sum of every scored member; one that had ended by turn t had nothing to come, 0. With a single reward at the
    end, rollouts of one length and discount 1 this is the advantage of the outcome.

    Metrics: `groups/count`, `groups/scored` (any member scored), `groups/zero_signal`, `credit/unscored` and
    `credit/truncated` (rollouts left out) and `credit/advantage_max` (largest size). Rewards themselves are measured
    where rollouts are.
    """
    rollouts = _rollouts([t for t in batch.trajectories if t.objective == POLICY], discount, leave_out_truncated)
    cells = _Cells.of(list(rollouts.values()))
    outcome = advantages(
        torch.tensor(cells.returns, dtype=torch.float64), torch.tensor(cells.numbers, dtype=torch.long)
    )
    values = outcome.values.numpy()
    kept: list[Trajectory] = []
    for trajectory in batch.trajectories:
        if trajectory.objective != POLICY:
            kept.append(trajectory)
            continue
        rollout = rollouts[trajectory.group, trajectory.rollout]
        if rollout.counts:
            kept.append(replace(trajectory, advantages=_per_token(trajectory, values[cells.places[id(rollout)]])))
    return Batch(
        trajectories=tuple(kept),
        objectives={**batch.objectives, POLICY: objective},
        metrics={**batch.metrics, **_metrics(list(rollouts.values()), cells, outcome)},
    )


@dataclass(slots=True)
class _Rollout:
    """What a rollout is compared by."""

    group: str
    reward: float
    """NaN where there is none."""
    returns: list[float]
    """Of the whole rollout, or of each turn from there on."""
    left_out: bool
    """Scored, but cut short and therefore not learned from."""

    @property
    def counts(self) -> bool:
        return not math.isnan(self.reward) and not self.left_out


def _rollouts(
    trajectories: Sequence[Trajectory], discount: float | None, leave_out_truncated: bool
) -> dict[tuple[str, str], _Rollout]:
    """Rollouts by (group, id)."""
    found: dict[tuple[str, str], _Rollout] = {}
    for trajectory in trajectories:
        reward = math.nan if trajectory.reward is None or not math.isfinite(trajectory.reward) else trajectory.reward
        known = found.get((trajectory.group, trajectory.rollout))
        if known is None:
            returns = [reward] if discount is None else _returns(reward, trajectory.turn_rewards, discount)
            left_out = leave_out_truncated and trajectory.truncated and not math.isnan(reward)
            known = _Rollout(group=trajectory.group, reward=reward, returns=returns, left_out=left_out)
            found[trajectory.group, trajectory.rollout] = known
        if known.reward != reward and not (math.isnan(known.reward) and math.isnan(reward)):
            raise LearnerError(
                f"credit of rollout '{trajectory.rollout}': its trajectories carry the rewards {known.reward} and "
                f"{reward}; hint: a rollout has one reward, shared by all its trajectories"
            )
    return found


def _returns(reward: float, given: Sequence[float | None], discount: float) -> list[float]:
    """What came from each turn on."""
    rewards = [value or 0.0 for value in given] or [0.0]
    beyond = reward - math.fsum(rewards)
    if abs(beyond) > RELATIVE_TOLERANCE * math.fsum(map(abs, (reward, *rewards))):  # less is rounding
        rewards[-1] += beyond
    returns = [rewards[-1]]
    for earlier in reversed(rewards[:-1]):
        returns.append(earlier + discount * returns[-1])
    return returns[::-1]


@dataclass(slots=True)
class _Cells:
    """What is compared with one another: in each group, one cell for the rollout or for each turn."""

    returns: list[float]  # [N], a member of a cell each
    numbers: list[int]  # [N], which cell
    groups: list[str]  # [C], which group a cell is of
    places: dict[int, list[int]]
    """Places in `returns` of each rollout, a place for each turn."""

    @classmethod
    def of(cls, rollouts: Sequence[_Rollout]) -> _Cells:
        depths: dict[str, int] = {}
        for rollout in rollouts:
            depths[rollout.group] = max(depths.get(rollout.group, 1), len(rollout.returns) if rollout.counts else 1)
        first = dict(zip(depths, accumulate(depths.values(), initial=0), strict=False))
        cells = cls([], [], [group for group, depth in depths.items() for _ in range(depth)], {})
        for rollout in rollouts:
            depth, start = depths[rollout.group], len(cells.returns)
            missing = [0.0] * (depth - len(rollout.returns))
            cells.returns += [*rollout.returns, *missing] if rollout.counts else [math.nan] * depth
            cells.numbers += range(first[rollout.group], first[rollout.group] + depth)
            cells.places[id(rollout)] = list(range(start, start + depth))
        return cells


def _per_token(trajectory: Trajectory, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The value of each sampled token's turn; without turns, or of one alone, the first."""
    advantages = np.zeros(trajectory.length, np.float32)
    if len(values) == 1 or trajectory.turns is None:
        advantages[trajectory.sampled] = values[0]
    else:
        advantages[trajectory.sampled] = values[trajectory.turns[trajectory.sampled]]
    return advantages


def _metrics(rollouts: Sequence[_Rollout], cells: _Cells, outcome: GroupAdvantages) -> Metrics:
    signal = {group for group, zero in zip(cells.groups, outcome.zero_signal.tolist(), strict=True) if not zero}
    groups = {rollout.group for rollout in rollouts}
    return {
        "groups/count": float(len(groups)),
        "groups/scored": float(len({rollout.group for rollout in rollouts if rollout.counts})),
        "groups/zero_signal": float(len(groups - signal)),
        "credit/unscored": float(sum(math.isnan(rollout.reward) for rollout in rollouts)),
        "credit/truncated": float(sum(rollout.left_out for rollout in rollouts)),
        "credit/advantage_max": float(outcome.values.abs().max()) if outcome.values.numel() else 0.0,
    }
