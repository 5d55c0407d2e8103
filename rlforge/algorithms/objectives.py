"""Losses on the logprobs of sampled tokens: each maps flat per-token tensors to a loss per token.

A loss per token times a weight per token (`reductions.py`), summed over the whole optimizer step, is the loss. The
learner calls every objective the same way and knows none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from rlforge.algorithms.ratios import log_ratio, sequence_mean, truncated_importance_weights
from rlforge.algorithms.reductions import REDUCTIONS as REDUCTIONS
from rlforge.algorithms.reductions import Reduction
from rlforge.errors import ConfigError, LearnerError
from rlforge.registry import suggest


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """What an objective sees: one entry per sampled token, trajectories end to end. Every trajectory is here whole."""

    logprobs: Tensor  # [N]
    """Under the policy being trained, with gradient."""
    sequence: Tensor  # [N] long
    """Which trajectory of this call the token belongs to, from 0."""
    behaviour_logprobs: Tensor | None = None  # [N]
    """Under the policy that sampled, at the time it sampled; None for data no policy of ours sampled."""
    advantages: Tensor | None = None  # [N]
    reference_logprobs: Tensor | None = None  # [N]
    entropy: Tensor | None = None  # [N]
    """Entropy in nats of the distribution each token was drawn from."""


class TokenLoss(NamedTuple):
    """What an objective says of each token."""

    loss: Tensor  # [N]
    stats: dict[str, Tensor]  # each [N], detached
    """Per-token facts by name; averaged with the loss's own weights they become the metrics `policy/<name>`."""


ObjectiveFunction: TypeAlias = Callable[..., TokenLoss]
"""`(inputs, **options) -> TokenLoss`."""


def cross_entropy(inputs: TokenInputs) -> TokenLoss:
    """`-log π`: imitate the tokens. Advantages are not looked at."""
    return TokenLoss(-inputs.logprobs, {})


def ppo_clip(
    inputs: TokenInputs, *, clip_low: float = 0.2, clip_high: float = 0.28, dual_clip: float | None = None
) -> TokenLoss:
    """`-min(rA, clip(r, 1-clip_low, 1+clip_high) A)` with r = π/μ per token.

    With `dual_clip` c > 1 the loss of a negative advantage is at most `c |A|`, which bounds what one improbable token
    can do. Sources: arXiv:1707.06347; separate bounds (0.2, 0.28), arXiv:2503.14476; dual clip, arXiv:1912.09729.
    Stats: `ratio`, and `clip_fraction`, 1 where the bound took the gradient away.
    """
    advantages, behaviour = _credit(inputs, "ppo_clip")
    ratio = log_ratio(inputs.logprobs, behaviour).exp()
    loss = _clipped(ratio, advantages, clip_low, clip_high)
    stats = {"ratio": ratio.detach(), "clip_fraction": _outside(ratio, advantages, clip_low, clip_high)}
    if dual_clip is not None:
        bound = -dual_clip * advantages
        stats["dual_clip_fraction"] = ((advantages < 0) & (loss > bound)).to(loss.dtype)
        loss = torch.where(advantages < 0, torch.minimum(loss, bound), loss)
    return TokenLoss(loss, stats)


def importance_sampling(inputs: TokenInputs, *, cap: float = 2.0, per_sequence: bool = False) -> TokenLoss:
    """`-min(π/μ, cap) A log π`, the weight without gradient: the policy gradient corrected for who sampled.

    On-policy the weight is 1 and this is REINFORCE (Williams 1992). `per_sequence` takes the ratio of whole
    trajectories. Stats: `ratio` (after the cap), and `clip_fraction`, 1 where the cap holds.
    """
    advantages, behaviour = _credit(inputs, "importance_sampling")
    weight = truncated_importance_weights(
        inputs.logprobs, behaviour, inputs.sequence, cap=cap, per_sequence=per_sequence
    )
    stats = {"ratio": weight, "clip_fraction": (weight >= cap).to(weight.dtype)}
    return TokenLoss(-weight * advantages * inputs.logprobs, stats)


def cispo(inputs: TokenInputs, *, clip_low: float = 1.0, clip_high: float = 1.0) -> TokenLoss:
    """`-clip(r, 1-clip_low, 1+clip_high) A log π`, the clipped ratio without gradient: no token loses its gradient.

    Source: arXiv:2506.13585, which leaves the lower side open (`clip_low` 1). Stats: `ratio`, `clip_fraction`.
    """
    advantages, behaviour = _credit(inputs, "cispo")
    ratio = log_ratio(inputs.logprobs.detach(), behaviour).exp()
    weight = ratio.clamp(1 - clip_low, 1 + clip_high)
    stats = {"ratio": ratio, "clip_fraction": (weight != ratio).to(ratio.dtype)}
    return TokenLoss(-weight * advantages * inputs.logprobs, stats)


def gspo(inputs: TokenInputs, *, clip_low: float = 3e-4, clip_high: float = 4e-4) -> TokenLoss:
    """`ppo_clip` with one ratio per trajectory: the geometric mean of its tokens' ratios.

    The token form (GSPO-token) of arXiv:2507.18071: equal to the sequence form in value and gradient when all tokens
    of a trajectory share an advantage and the reduction is `sequence_mean_token_mean`. Stats: `ratio`, `clip_fraction`.
    """
    advantages, behaviour = _credit(inputs, "gspo")
    mean = log_ratio(sequence_mean(inputs.logprobs.detach() - behaviour, inputs.sequence), torch.zeros_like(behaviour))
    ratio = (mean + inputs.logprobs - inputs.logprobs.detach()).exp()
    loss = _clipped(ratio, advantages, clip_low, clip_high)
    return TokenLoss(loss, {"ratio": ratio.detach(), "clip_fraction": _outside(ratio, advantages, clip_low, clip_high)})


def kl_penalty(kind: Literal["k1", "k2", "k3"], logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Estimate of KL(π ‖ reference) from tokens drawn from π, per token in nats: same shape, with gradient.

    With d = log π − log reference: k1 = d (unbiased, may be negative), k2 = d²/2 (biased, never negative),
    k3 = e^{-d} − 1 + d (unbiased, never negative). d is clamped before `exp`. Source: Schulman, Approximating KL
    divergence, 2020. As terms of a loss on on-policy tokens they differ in gradient: that of k1 is 0 in expectation
    (it measures but does not restrain), that of k2 is the gradient of KL(π ‖ reference), that of k3 is near it for
    small d.
    """
    distance = log_ratio(logprobs, reference_logprobs)
    if kind == "k1":
        return distance
    if kind == "k2":
        return distance.square() / 2
    if kind == "k3":
        return torch.expm1(-distance) + distance
    raise ConfigError(f"unknown KL estimate '{kind}'. Known: k1, k2, k3")


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the softmax of `logits` [..., V]: [...], with gradient. A logit of -inf has probability 0."""
    logprobs = torch.log_softmax(logits, dim=-1)
    return -(logprobs.exp() * logprobs.clamp(min=torch.finfo(logprobs.dtype).min)).sum(-1)


OBJECTIVES: dict[str, ObjectiveFunction] = {
    "cispo": cispo,
    "cross_entropy": cross_entropy,
    "gspo": gspo,
    "importance_sampling": importance_sampling,
    "ppo_clip": ppo_clip,
}


def objective(name: str) -> ObjectiveFunction:
    """The objective of that name. Raises ConfigError with a suggestion when there is none."""
    return _look_up(OBJECTIVES, name, "objective")


def reduction(name: str) -> Reduction:
    """The reduction of that name. Raises ConfigError with a suggestion when there is none."""
    return _look_up(REDUCTIONS, name, "reduction")


_Entry = TypeVar("_Entry")


def _look_up(known: Mapping[str, _Entry], name: str, kind: str) -> _Entry:
    if name not in known:
        raise ConfigError(f"unknown {kind} '{name}'. {suggest(name, known)}Known: {', '.join(sorted(known))}")
    return known[name]


def _credit(inputs: TokenInputs, name: str) -> tuple[Tensor, Tensor]:
    """Advantages and behaviour logprobs, both [N]; LearnerError when the batch carries none."""
    if inputs.advantages is None:
        raise LearnerError(f"objective '{name}' got no advantages; hint: call algorithm.credit(batch) before the step")
    if inputs.behaviour_logprobs is None:
        raise LearnerError(
            f"objective '{name}' got no behaviour logprobs; hint: train data no policy sampled with 'cross_entropy'"
        )
    return inputs.advantages, inputs.behaviour_logprobs


def _clipped(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def _outside(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """1 where clipping took the gradient away, else 0: [N]."""
    risen = (advantages > 0) & (ratio > 1 + clip_high)
    fallen = (advantages < 0) & (ratio < 1 - clip_low)
    return (risen | fallen).to(ratio.dtype).detach()
