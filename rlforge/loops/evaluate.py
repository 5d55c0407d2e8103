"""Evaluation is collecting without learning: held-out tasks, greedy accuracy, pass@k, each with an interval."""

from typing import Annotated

from pydantic import Field

from rlforge.config import BaseConfig, Part, PartConfig
from rlforge.registry import SOURCES


class EvaluationConfig(BaseConfig):
    """A named measurement on held-out tasks."""

    name: str = "held_out"
    """Its metrics are `eval/<name>/…`."""
    data: list[Annotated[PartConfig, Part(SOURCES)]] = Field(min_length=1)
    """Held-out tasks; sources are walked in order, not mixed."""
    every: int = Field(default=20, ge=1)
    """Steps between evaluations; before step 0 and after the last step always."""
    limit: int = Field(default=256, ge=1)
    """At most so many tasks."""
    samples: int = Field(default=0, ge=0)
    """Sampled attempts per task for pass@k besides the greedy one; 0 for none."""
    pass_at: tuple[int, ...] = (1, 4)
    """The ks of pass@k, each at most `samples`."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the sampled attempts."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest completion, in tokens."""
    success_at: float = 1.0
    """A rollout succeeds when its reward is at least this."""
