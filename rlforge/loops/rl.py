"""The reinforcement-learning loop."""

from typing import Annotated, Literal

from pydantic import Field

from rlforge.config import Part, PartConfig
from rlforge.loops.sampling import SamplingConfig
from rlforge.loops.stage import StageConfig
from rlforge.registry import ALGORITHMS, ORCHESTRATORS
from rlforge.rewards.router import Router



class RLConfig(StageConfig):
    """A stage that learns from rewards."""

    type: Literal["rl"] = "rl"  # pyright: ignore[reportIncompatibleVariableOverride]
    groups_per_step: int = Field(default=32, ge=1)
    """Tasks attempted per step."""
    group_size: int = Field(default=8, ge=1)
    """Attempts at each task; they share a baseline."""
    sampling: SamplingConfig = SamplingConfig()
    """How the policy samples in training."""
    algorithm: Annotated[PartConfig, Part(ALGORITHMS)] = Field(default="grpo", validate_default=True)  # type: ignore[assignment]
    """How rewards become advantages, and which objective learns from them."""
    orchestrator: Annotated[PartConfig, Part(ORCHESTRATORS)] = Field(default="single_turn", validate_default=True)  # type: ignore[assignment]
    """Who decides what happens in a rollout."""
    rewards: Router.Config | None = None
    """Scorers of this stage; unset: the recipe's."""
    group_deadline_s: float = Field(default=600.0, gt=0)
    """Seconds a group may take; a member not done by then ends with `timeout`, unscored."""
