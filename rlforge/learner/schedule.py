"""Learning rate as a pure function of the step, so that a resumed stage needs no schedule state but the step."""

from __future__ import annotations

import math
from typing import Literal

from rlforge.learner.config import ScheduleConfig

Phase = Literal["warmup", "constant", "anneal"]


def anneal_start(config: ScheduleConfig, total_steps: int) -> int:
    """First annealed step (0-based); `total_steps` when nothing is annealed."""
    if config.anneal == "none":
        return total_steps
    steps = config.anneal_steps or math.ceil(config.anneal_fraction * total_steps)
    return max(config.warmup_steps, total_steps - steps)


def phase(config: ScheduleConfig, step: int, total_steps: int) -> Phase:
    """Phase that step number `step` (0-based) belongs to."""
    if step < config.warmup_steps:
        return "warmup"
    return "anneal" if step >= anneal_start(config, total_steps) else "constant"


def learning_rate(config: ScheduleConfig, lr: float, step: int, total_steps: int) -> float:
    """Learning rate of step number `step` (0-based). Warm-up ends at `lr`, the last annealed step is at `min_lr`."""
    current = phase(config, step, total_steps)
    if current == "warmup":
        return lr * (step + 1) / config.warmup_steps
    if current == "constant":
        return lr
    start = anneal_start(config, total_steps)
    done = min(1.0, (step - start + 1) / max(1, total_steps - start))
    left = 1.0 - done if config.anneal == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return config.min_lr + (lr - config.min_lr) * left
