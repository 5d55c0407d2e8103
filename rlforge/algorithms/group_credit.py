"""Credit by comparison with the group: one reward per rollout in, one advantage for all its sampled tokens out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Self, TypeAlias

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from rlforge.algorithms.advantages import GroupAdvantages
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


def credit_groups(batch: Batch, objective: Objective, advantages: AdvantageFunction) -> Batch:
    """Give every sampled token of a rollout the rollout's advantage, and leave unscored rollouts out of the batch.

    Left out, not trained on as 0: the step is then the one it would have been had they not been drawn. A rollout
    counts once in its group however many trajectories it forked into. Raises LearnerError when the trajectories of
    one rollout disagree on its reward.

    Metrics: `groups/count`, `groups/scored` (any member scored), `groups/zero_signal`, `credit/unscored` (rollouts left
    out) and `credit/advantage_max` (largest size). Rewards themselves are measured where rollouts are.
    """
    rows, rewards, groups = _rollouts([t for t in batch.trajectories if t.objective == POLICY])
    outcome = advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(groups, dtype=torch.long))
    values, scored = outcome.values.tolist(), outcome.scored.tolist()
    kept: list[Trajectory] = []
    for trajectory in batch.trajectories:
        if trajectory.objective != POLICY:
            kept.append(trajectory)
            continue
        row = rows[trajectory.group, trajectory.rollout]
        if scored[row]:
            advantage = np.zeros(trajectory.length, np.float32)
            advantage[trajectory.sampled] = values[row]
            kept.append(replace(trajectory, advantages=advantage))
    return Batch(
        trajectories=tuple(kept),
        objectives={**batch.objectives, POLICY: objective},
        metrics={**batch.metrics, **_metrics(outcome)},
    )


def _rollouts(trajectories: Sequence[Trajectory]) -> tuple[dict[tuple[str, str], int], list[float], list[int]]:
    """Row of each rollout by (group, id); reward and group number of each row. NaN stands for no reward."""
    rows: dict[tuple[str, str], int] = {}
    numbers: dict[str, int] = {}
    rewards: list[float] = []
    groups: list[int] = []
    for trajectory in trajectories:
        reward = math.nan if trajectory.reward is None else trajectory.reward
        row = rows.setdefault((trajectory.group, trajectory.rollout), len(rewards))
        if row == len(rewards):
            rewards.append(reward)
            groups.append(numbers.setdefault(trajectory.group, len(numbers)))
        elif rewards[row] != reward and not (math.isnan(rewards[row]) and math.isnan(reward)):
            raise LearnerError(
                f"credit of rollout '{trajectory.rollout}': its trajectories carry the rewards {rewards[row]} and "
                f"{reward}; hint: a rollout has one reward, shared by all its trajectories"
            )
    return rows, rewards, groups


def _metrics(outcome: GroupAdvantages) -> Metrics:
    return {
        "groups/count": float(outcome.zero_signal.numel()),
        "groups/scored": float((outcome.scored_members > 0).sum()),
        "groups/zero_signal": float(outcome.zero_signal.sum()),
        "credit/unscored": float((~outcome.scored).sum()),
        "credit/advantage_max": float(outcome.values.abs().max()) if outcome.values.numel() else 0.0,
    }
