"""Ratios between two policies' logprobs, safe at any distance, and the weights that correct for it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

LOG_RATIO_LIMIT: Final = 20.0
"""Log-ratios are clamped to ± this many nats before `exp`: e^20 squared is still finite in float32."""


def log_ratio(logprobs: Tensor, others: Tensor) -> Tensor:
    """`logprobs - others` in nats, clamped to ±`LOG_RATIO_LIMIT`; same shape.

    Clamped before any `exp`, so ratios and their gradients are finite however far the policies are apart (clamping
    the ratio instead leaves a gradient of infinity times zero). Beyond the limit the gradient is 0.
    """
    return (logprobs - others).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def sequence_sum(values: Tensor, sequence: Tensor) -> Tensor:
    """Sum of `values` [N] over the tokens of the same trajectory (`sequence` [N], long), given back to each: [N]."""
    size = int(sequence.max()) + 1 if sequence.numel() else 0
    return values.new_zeros(size).index_add(0, sequence, values)[sequence]


def sequence_mean(values: Tensor, sequence: Tensor) -> Tensor:
    """Mean of `values` [N] over the tokens of the same trajectory (`sequence` [N], long), given back to each: [N]."""
    return sequence_sum(values, sequence) / sequence_sum(torch.ones_like(values), sequence)


def truncated_importance_weights(
    logprobs: Tensor, behaviour_logprobs: Tensor, sequence: Tensor, *, cap: float = 2.0, per_sequence: bool = False
) -> Tensor:
    """`min(π/μ, cap)` for each sampled token, without gradient: [N], in [0, cap].

    π is the policy being trained (`logprobs` [N]), μ the one that sampled (`behaviour_logprobs` [N]). Per token the
    ratio is the token's own; per sequence it is the product over the trajectory (`sequence` [N], long), which is
    unbiased up to the cap but varies more. Source: Ionides, Truncated importance sampling, 2008; without the cap one
    token that the generator thought improbable can outweigh the whole batch.
    """
    distance = logprobs.detach() - behaviour_logprobs
    if per_sequence:
        distance = sequence_sum(distance, sequence)
    return distance.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp().clamp(max=cap)
