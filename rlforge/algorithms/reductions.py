"""From a loss per token to one loss: what each token of a trajectory weighs in the whole optimizer step.

A reduction sees the whole step (every rank, every micro-batch) and answers with one weight per trajectory, that of
each of its sampled tokens. The loss is `sum(token_loss * weight)`, so any split of the step into micro-batches adds up
to the same loss and gradient. Weights depend on how many tokens were sampled, never on what an objective did with
them: a token whose gradient was clipped or rejected stays in the denominator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Reduction: TypeAlias = Callable[..., Tensor]
"""`(lengths [S], weights [S], groups [S], **options) -> weight of each token [S]`: see `token_mean`."""


def token_mean(lengths: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    """Mean over all tokens of the step (arXiv:2503.14476): `w_s / Σ w n`.

    Args:
        lengths: sampled tokens n of each trajectory, [S].
        weights: trajectory weights w, [S]; those of one rollout's trajectories add up to 1, so a rollout that forked
            counts as one.
        groups: index of the group of each trajectory, [S] long.

    Returns:
        Weight of each token of each trajectory, [S], with the type of `weights`. All 0 when nothing was sampled.
    """
    lengths, weights_64 = lengths.double(), weights.double()
    return _over(weights_64, (weights_64 * lengths).sum()).to(weights.dtype)


def per_prompt_token_mean(lengths: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    """Mean over groups of each group's token mean: `w_s / (G Σ_group w n)`; see `token_mean` for the arguments.

    G counts the groups that sampled anything. A prompt with long answers weighs no more than one with short answers.
    """
    lengths, weights_64 = lengths.double(), weights.double()
    names, index = torch.unique(groups, return_inverse=True)
    totals = weights_64.new_zeros(names.shape[0]).index_add(0, index, weights_64 * lengths)
    return _over(weights_64, totals[index] * (totals > 0).sum()).to(weights.dtype)


def sequence_mean_token_sum(lengths: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    """Mean over rollouts of the sum over tokens: `w_s / Σ w`; see `token_mean` for the arguments.

    Σ w counts every rollout of the step, also one that sampled nothing.
    """
    del lengths, groups
    weights_64 = weights.double()
    return _over(weights_64, weights_64.sum()).to(weights.dtype)


def sequence_mean_token_mean(lengths: Tensor, weights: Tensor, groups: Tensor) -> Tensor:
    """Mean over rollouts of the mean over tokens (the original GRPO, arXiv:2402.03300): `w_s / (n_s Σ w)`.

    See `token_mean` for the arguments. Makes each token of a long answer count less, for good and for ill.
    """
    del groups
    weights_64 = weights.double()
    return _over(weights_64, lengths.double() * weights_64.sum()).to(weights.dtype)


def constant_length(lengths: Tensor, weights: Tensor, groups: Tensor, *, length: float) -> Tensor:
    """Sum over tokens divided by a constant, mean over rollouts (Dr.GRPO, arXiv:2503.20783): `w_s / (length Σ w)`.

    `length` is in tokens, the longest completion allowed. See `token_mean` for the other arguments.
    """
    return sequence_mean_token_sum(lengths, weights, groups) / length


REDUCTIONS: dict[str, Reduction] = {
    "constant_length": constant_length,
    "per_prompt_token_mean": per_prompt_token_mean,
    "sequence_mean_token_mean": sequence_mean_token_mean,
    "sequence_mean_token_sum": sequence_mean_token_sum,
    "token_mean": token_mean,
}


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient that is 0 where the denominator is: an empty mask weighs nothing."""
    return torch.where(denominator > 0, numerator / denominator.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
