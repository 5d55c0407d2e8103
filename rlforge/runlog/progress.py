"""What a run tells whoever is watching while it works, and what it says at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rlforge.config import BaseConfig
from rlforge.types import Metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """How one stage of a run went."""

    name: str
    type: str
    """`pretrain`, `sft`, `rl`."""
    steps: int
    """Optimizer steps done."""
    before: Metrics = field(default_factory=lambda: dict[str, float]())
    """Evaluation metrics before the first step; keys as in metrics.jsonl."""
    after: Metrics = field(default_factory=lambda: dict[str, float]())
    """Evaluation metrics after the last step."""
    seconds: float = 0.0
    checkpoint: str = ""
    """Folder of the stage's last checkpoint."""
    stopped_by: str = ""
    """Rule that ended the stage before its last step; empty when none did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run went."""

    run: str
    """The run folder."""
    stages: tuple[StageResult, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    """Ended by Ctrl-C after a checkpoint; `rlforge train --resume` goes on from there."""


class Progress(Protocol):
    """Told by the loops what happens, in order."""

    def plan(self, recipe: BaseConfig) -> None:
        """Before anything starts."""
        ...

    def stage(self, name: str, kind: str, steps: int) -> None:
        """A stage begins (or goes on) and will take `steps` optimizer steps in all."""
        ...

    def step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Step `step` (from 1) is done."""
        ...

    def evaluation(self, stage: str, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """An evaluation after `step` steps is done."""
        ...

    def finish(self, result: RunResult) -> None:
        """The run is over, whole or interrupted."""
        ...


class SilentProgress:
    """Says nothing."""

    def plan(self, recipe: BaseConfig) -> None:
        """Say nothing."""

    def stage(self, name: str, kind: str, steps: int) -> None:
        """Say nothing."""

    def step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Say nothing."""

    def evaluation(self, stage: str, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """Say nothing."""

    def finish(self, result: RunResult) -> None:
        """Say nothing."""
