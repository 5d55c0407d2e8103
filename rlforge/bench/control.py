"""`control`: the same recipe learns from its rewards, and does not learn when they are dealt out at random.

A loop that improves under shuffled rewards measures something else than what the rewards say: a leak of the answers,
a bias of the baseline, an optimizer that sharpens whatever it sees.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlforge.algorithms.grpo import GRPO
from rlforge.bench.addition import recipe
from rlforge.bench.runner import BenchResult
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import SilentProgress
from rlforge.types import Batch

STEPS = 60
ACCURACY = "eval/held_out/accuracy"


class Permuted(GRPO):
    """GRPO whose rewards are permuted within the batch: same distribution, no relation to what was done."""

    class Config(GRPO.Config):
        """Settings of GRPO."""

        type: str = "rlforge.bench.control:Permuted"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._draw = random.Random(0)

    def credit(self, batch: Batch) -> Batch:
        """Credit of rewards that belong to other rollouts."""
        rewards = [trajectory.reward for trajectory in batch.trajectories]
        self._draw.shuffle(rewards)
        dealt = tuple(replace(t, reward=reward) for t, reward in zip(batch.trajectories, rewards, strict=True))
        return super().credit(replace(batch, trajectories=dealt))


def run() -> BenchResult:
    """Value: what the control gained in held-out accuracy; ratio: against what the true rewards gained."""
    with tempfile.TemporaryDirectory(prefix="rlforge-bench-") as folder:
        true = _gain(Path(folder), "true", "grpo")
        warm = str(Path(folder) / "true" / "checkpoints" / "warm_start" / "final")
        control = _gain(Path(folder), "control", "rlforge.bench.control:Permuted", warm)
    gained, control_gained = true[1] - true[0], control[1] - control[0]
    extra: dict[str, Any] = {"steps": STEPS, "true_before": true[0], "true_after": true[1]}
    extra |= {"control_before": control[0], "control_after": control[1], "true_gain": gained}
    return BenchResult(
        name="control",
        value=control_gained,
        unit="accuracy",
        ratio=control_gained / gained if gained else None,
        samples=(control_gained,),
        extra=extra,
    )


def _gain(folder: Path, name: str, algorithm: str, start_from: str | None = None) -> tuple[float, float]:
    """Held-out accuracy before and after reinforcement; the second run starts from the first one's warm start."""
    plan = recipe(folder, name=name, algorithm=algorithm, steps=STEPS, start_from=start_from)
    run_folder = RunFolder.create(folder / name, plan.yaml())
    result = asyncio.run(train(plan, folder=run_folder, progress=SilentProgress()))
    stage = result.stages[-1]
    return stage.before[ACCURACY], stage.after[ACCURACY]
