"""What every stage of a recipe says: where it starts, what it learns from, how it is measured and when it stops."""

from collections import Counter
from typing import Annotated

from pydantic import Field, field_validator

from rlforge.config import BaseConfig, FileName, Part, PartConfig
from rlforge.learner.config import LearnerConfig
from rlforge.loops.evaluate import EvaluationConfig, Play
from rlforge.registry import ORCHESTRATORS, SOURCES


class StopRule(BaseConfig):
    """Ends a stage early, when an evaluation says it is good enough."""

    metric: str
    """Key of an evaluation's metric, `eval/stop/accuracy` for instance."""
    at_least: float
    """The stage ends after the first evaluation that reaches this."""


class StageConfig(PartConfig):
    """What all kinds of stage have in common."""

    name: FileName
    """Names the stage's checkpoints: `<name>/final` can be started from, in this recipe or a later one."""
    start_from: str | None = None
    """`<stage>/final`, `<stage>/step_000100` or a model folder; unset: the stage before, or the recipe's model."""
    data: list[Annotated[PartConfig, Part(SOURCES)]] = Field(min_length=1)
    """Sources to draw from, each with a weight."""
    steps: int = Field(ge=1)
    """Optimizer steps."""
    orchestrator: Annotated[PartConfig, Part(ORCHESTRATORS)] = Field(default="single_turn", validate_default=True)  # type: ignore[assignment]
    """Who decides what happens in a rollout, in training and in evaluations."""
    learner: LearnerConfig = LearnerConfig()
    """Optimizer, schedule and memory plan."""
    evaluations: list[EvaluationConfig] = Field(default_factory=lambda: list[EvaluationConfig]())
    """Measurements before step 0, every few steps, and after the last."""
    stop_when: StopRule | None = None
    """Optional early end."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints; the last step, the last before the anneal, a new best and a step that another stage
    starts from always have one."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints kept besides the best, the last before the anneal, the final one and those that another stage starts
    from."""

    @field_validator("evaluations")
    @classmethod
    def _evaluations_are_told_apart(cls, evaluations: list[EvaluationConfig]) -> list[EvaluationConfig]:
        for name, count in Counter(evaluation.name for evaluation in evaluations).items():
            if count > 1:
                raise ValueError(
                    f"two are called '{name}'; metrics and results go by that name, so give each a 'name' of its own"
                )
        return evaluations

    @property
    def play(self) -> Play:
        """How its rollouts are played, evaluations included where they say nothing else."""
        return Play()
