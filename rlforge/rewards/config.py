"""What every scorer's configuration has in common."""

from __future__ import annotations

from pydantic import Field, field_validator

from rlforge.config import PartConfig
from rlforge.types import Rollout


class ScorerConfig(PartConfig):
    """Base of every scorer's `Config`: how the router weighs, routes and retries it."""

    name: str = ""
    """Name in metrics and messages; the type where empty. Unique among the scorers of a router."""
    weight: float = Field(1.0, allow_inf_nan=False)
    """Factor of this scorer's value in the reward; 0 means log only, negative is a penalty."""
    gate: float | None = Field(None, allow_inf_nan=False)
    """When set, a value below it closes the gate: the reward is 0 and the scorers after this one are not asked."""
    sources: list[str] = Field(default_factory=lambda: list[str]())
    """Names of the task sources this scorer judges; empty means all."""
    timeout_s: float = Field(10.0, gt=0, allow_inf_nan=False)
    """Seconds one rollout may take before it is left unscored."""
    attempts: int = Field(2, ge=1)
    """How often a rollout is tried in all when the fault is one that may pass (a time-out, a crash)."""
    clip: tuple[float, float] | None = None
    """Lower and upper bound of the value before gate and weight; scores are logged unclipped."""

    @field_validator("clip")
    @classmethod
    def _ordered(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and not clip[0] < clip[1]:
            raise ValueError(f"clip={list(clip)} is empty; write the lower bound first")
        return clip

    @property
    def label(self) -> str:
        """The name, or the type where none is given."""
        return self.name or self.type

    @property
    def patience_s(self) -> float:
        """Seconds that a call may wait beyond its time-outs, for something that is down."""
        return 0.0

    def longest_s(self, rollout: Rollout) -> float:
        """Seconds that judging this rollout may take at most."""
        return self.timeout_s

    @property
    def shadow(self) -> bool:
        """Whether it is asked for the log alone and can never change a reward."""
        return self.weight == 0 and self.gate is None

    def judges(self, rollout: Rollout) -> bool:
        """Whether it is asked about rollouts of this task's source."""
        return not self.sources or rollout.task.source in self.sources

    def clipped(self, value: float) -> float:
        """The value within `clip`."""
        return value if self.clip is None else min(max(value, self.clip[0]), self.clip[1])
