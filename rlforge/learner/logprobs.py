"""Log-probabilities and entropy of chosen tokens without ever holding the [tokens x vocabulary] matrix whole."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

Saved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class _ChunkedLogprobs(torch.autograd.Function):
    """Forward keeps two numbers a token; backward recomputes the logits chunk by chunk from the hidden states."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, inverse_temperature: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(logprobs)
        normaliser = torch.empty_like(logprobs)
        output = head.to(hidden.dtype)
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = _logits(hidden[part], output, inverse_temperature[part])  # [C, V]
            normaliser[part] = torch.logsumexp(logits, -1)
            log_p = logits.sub_(normaliser[part, None])
            logprobs[part] = log_p.gather(1, targets[part, None])[:, 0]
            entropy[part] = -(log_p.exp() * log_p).sum(-1)
        ctx.save_for_backward(hidden, output, targets, inverse_temperature, normaliser, entropy)
        ctx.chunk, ctx.head_dtype = chunk, head.dtype
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[override]
        hidden, head, _, inverse_temperature, _, _ = saved = cast(Saved, ctx.saved_tensors)
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros(head.shape, dtype=torch.float32, device=head.device)
        for start in range(0, hidden.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            grad_logits = _grad_logits(saved, part, grads[0], grads[1])
            grad_logits.mul_(inverse_temperature[part, None])
            grad_logits = grad_logits.to(hidden.dtype)
            grad_hidden[part] = grad_logits @ head
            grad_head += (grad_logits.T @ hidden[part]).float()
        return grad_hidden, grad_head.to(ctx.head_dtype), None, None, None


def _logits(hidden: Tensor, head: Tensor, inverse_temperature: Tensor) -> Tensor:
    return (hidden @ head.T).float().mul_(inverse_temperature[:, None])


def _grad_logits(saved: Saved, part: slice, grad_logprobs: Tensor | None, grad_entropy: Tensor | None) -> Tensor:
    """d logprob/dz = onehot - p and d entropy/dz = -p (log p + H), for one chunk; [C, V]."""
    hidden, head, targets, inverse_temperature, normaliser, entropy = saved
    log_p = _logits(hidden[part], head, inverse_temperature[part]).sub_(normaliser[part, None])
    p = log_p.exp()
    grad = torch.zeros_like(p)
    if grad_logprobs is not None:
        grad.sub_(p * grad_logprobs[part, None])
        grad.scatter_add_(1, targets[part, None], grad_logprobs[part, None])
    if grad_entropy is not None:
        grad.sub_(p * (log_p + entropy[part, None]) * grad_entropy[part, None])
    return grad


def token_logprobs(
    hidden: Tensor, head: Tensor, targets: Tensor, temperature: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of its distribution, in nats, float32 [N] each; both differentiable.

    `hidden` [N, D] are last hidden states, `head` [V, D] the output matrix, `targets` [N] token ids, `temperature`
    [N] divides the logits. At most `chunk` rows of logits exist at a time, forward and backward. N = 0 gives empty
    tensors. Logits are products in the type of `hidden`, or in that of an autocast under way; all else is float32.
    """
    inverse = temperature.float().reciprocal()
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    # A backward pass runs outside autocast: were the forward's products cast by it, the two would see other logits, and
    # p recomputed from one and normalised by the other would not add up to 1.
    with torch.autocast(kind, enabled=False):
        result = cast(Any, _ChunkedLogprobs).apply(hidden, head, targets, inverse, chunk)
    return cast(tuple[Tensor, Tensor], result)
