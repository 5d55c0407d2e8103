"""Advantages from rewards: how much better than its group a rollout did, over all groups of a batch at once.

Statistics are float64 and keyed by group id, so groups may have any size and come in any order. A reward that is not
finite (NaN) stands for an unscored rollout: it leaves the baseline of its group and its own advantage is 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

RELATIVE_TOLERANCE: Final = 1e-6
"""Rewards of a group that spread less than this, relative to the largest among them, are the same reward: what is left
is rounding, and dividing by it would turn noise into advantages of order 1."""


class GroupAdvantages(NamedTuple):
    """Advantages of R rollouts in G groups."""

    values: Tensor  # [R] float64
    """Exactly 0 where unscored and throughout a group without signal."""
    scored: Tensor  # [R] bool
    scored_members: Tensor  # [G] long
    """Scored rollouts of each group, groups in order of their id."""
    zero_signal: Tensor  # [G] bool
    """True where fewer than two members are scored, or all scored rewards are the same."""


class _Groups(NamedTuple):
    """Statistics of the scored members of each group, handed to every member: all [R], but for the last two [G]."""

    group: Tensor  # dense index of the rollout's group
    scored: Tensor
    deviations: Tensor  # reward minus mean; exactly 0 where unscored or without signal
    spread: Tensor  # largest minus smallest reward; 1 without signal
    size: Tensor  # scored members; 2 without signal
    scored_members: Tensor
    zero_signal: Tensor


def grpo(rewards: Tensor, groups: Tensor, *, std: bool = True) -> GroupAdvantages:
    """`(r - mean) / std` within each group, or `r - mean` when `std` is false (Dr.GRPO).

    Args:
        rewards: [R], one per rollout, NaN where unscored.
        groups: [R] long, group id of each.
        std: divide by the standard deviation, with one degree of freedom removed. No epsilon is added: a group whose
            deviation is rounding error has no signal and gets exact zeros (`RELATIVE_TOLERANCE`).

    Sources: arXiv:2402.03300; without the division, arXiv:2503.20783.
    """
    stats = _statistics(rewards, groups)
    values = stats.deviations
    if std:
        scaled = stats.deviations / stats.spread  # within ±1, so that squares neither overflow nor vanish
        variance = _per_group(scaled.square(), stats) / (stats.size - 1)
        values = torch.where(variance > 0, scaled / variance.sqrt(), 0.0)
    return GroupAdvantages(values, stats.scored, stats.scored_members, stats.zero_signal)


def rloo(rewards: Tensor, groups: Tensor) -> GroupAdvantages:
    """Reward minus the mean of the *other* scored members of its group, computed as `n/(n-1) (r - mean)`.

    Arguments as in `grpo`. Zero-mean over each group. Source: arXiv:2402.14740.
    """
    stats = _statistics(rewards, groups)
    values = stats.deviations * (stats.size / (stats.size - 1))
    return GroupAdvantages(values, stats.scored, stats.scored_members, stats.zero_signal)


def _statistics(rewards: Tensor, groups: Tensor) -> _Groups:
    """Two passes over the rewards of all groups at once: first the means, then what is left."""
    rewards = rewards.double()
    names, index = torch.unique(groups, return_inverse=True)
    scored = rewards.isfinite()
    known = torch.where(scored, rewards, 0.0)
    counts = torch.bincount(index[scored], minlength=names.shape[0])
    means = known.new_zeros(names.shape[0]).index_add(0, index, known) / counts.clamp(min=1)
    largest, smallest = (
        _extreme(torch.where(scored, rewards, -sign * torch.inf), index, counts, sign) for sign in (1, -1)
    )
    spread = largest - smallest
    magnitude = torch.maximum(largest.abs(), smallest.abs()).clamp(min=1e-290)  # below it float64 loses its digits
    signal = (counts >= 2) & (spread > RELATIVE_TOLERANCE * magnitude)
    alive = signal[index]
    return _Groups(
        group=index,
        scored=scored,
        deviations=torch.where(alive & scored, rewards - means[index], 0.0),
        spread=torch.where(alive, spread[index], 1.0),
        size=torch.where(alive, counts[index], 2).double(),
        scored_members=counts,
        zero_signal=~signal,
    )


def _extreme(rewards: Tensor, index: Tensor, counts: Tensor, sign: int) -> Tensor:
    """Largest (`sign` 1) or smallest (-1) reward of each group: [G]."""
    start = rewards.new_full(counts.shape, -sign * torch.inf)
    return start.scatter_reduce(0, index, rewards, "amax" if sign > 0 else "amin")


def _per_group(values: Tensor, stats: _Groups) -> Tensor:
    """Sum of `values` over each rollout's group: [R]."""
    return values.new_zeros(stats.zero_signal.shape).index_add(0, stats.group, values)[stats.group]
