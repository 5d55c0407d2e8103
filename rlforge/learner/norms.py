"""Root-mean-square norms in a third of the time on a CPU: same formula, backward pass worked out by hand.

transformers' own form makes about ten passes over memory, which on two cores cost a small model a sixth of its step.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn


class _RMSNorm(torch.autograd.Function):
    """`w x / sqrt(mean(x²) + eps)` over the last dimension (arXiv:1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, weight, scale = cast(tuple[Tensor, Tensor, Tensor], ctx.saved_tensors)
        unit = x * scale
        product = grads[0] * unit
        grad_weight = product.flatten(0, -2).sum(0)
        shrink = (product @ weight).unsqueeze(-1).mul_(-1.0 / x.shape[-1])
        grad_x = torch.mul(grads[0], weight, out=product).addcmul_(unit, shrink).mul_(scale)
        return grad_x, grad_weight, None


def rms_norm(weight: Tensor, eps: float, x: Tensor) -> Tensor:
    """`weight` [D] times `x` [..., D] over its root mean square, in float32; differentiable in both."""
    return cast(Any, _RMSNorm).apply(x.float(), weight, eps)


def quicken_norms(model: nn.Module) -> int:
    """Give every norm of a float32 model that computes this formula the faster form; returns how many.

    Whether a module computes it is not guessed from its name: a module with the right attributes is tried on numbers,
    so that variants (a weight offset by one) keep their own code.
    """
    found = [module for module in model.modules() if _computes_rms_norm(module)]
    for module in found:
        module.forward = partial(rms_norm, cast(Tensor, module.weight), cast(float, module.variance_epsilon))
    return len(found)


def _computes_rms_norm(module: nn.Module) -> bool:
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, Tensor) or weight.ndim != 1 or weight.dtype != torch.float32 or eps is None:
        return False
    probe = torch.linspace(-2.0, 3.0, 2 * weight.shape[0], device=weight.device).view(2, -1)
    with torch.no_grad():
        theirs = cast(Tensor, module(probe))
    return torch.allclose(theirs, rms_norm(weight, eps, probe), rtol=1e-5, atol=1e-6)
