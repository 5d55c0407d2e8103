"""AdamW over a model's parameters, clipped to a global norm."""

from __future__ import annotations

import torch
from torch import Tensor

from rlforge.learner.config import LearnerConfig


def build_optimizer(model: torch.nn.Module, config: LearnerConfig) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101); matrices are decayed, vectors are not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Gradient of every parameter, zeros where the loss did not reach one."""
    found: list[Tensor] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found


def update(optimizer: torch.optim.Optimizer, grads: list[Tensor], norm: float, max_norm: float, lr: float) -> None:
    """Scale gradients of global norm `norm` down to `max_norm`, then one step at learning rate `lr`."""
    if norm > max_norm:
        for gradient in grads:
            gradient.mul_(max_norm / norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def global_norm(grads: list[Tensor]) -> float:
    """Euclidean norm of all gradients together; not finite when any of them is not."""
    return float(torch.nn.utils.get_total_norm(grads))
