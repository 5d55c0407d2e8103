"""The reward that the world gave, turn by turn, as the rollout's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from rlforge.rewards.config import ScorerConfig
from rlforge.types import Rollout, Score, StopReason


class EnvironmentScorer:
    """Sums up what the world gave; a rollout for which it never gave anything is unscored."""

    class Config(ScorerConfig):
        """Settings of `environment`."""

        type: str = "environment"
        take: Literal["sum", "last"] = "sum"
        """`sum` adds up the rewards of all turns; `last` takes the last one that was given."""
        discount: float = Field(1.0, gt=0, le=1)
        """Under `sum`, a reward counts this much less with every turn before it."""
        unfinished: float | None = Field(0.0, allow_inf_nan=False)
        """Value of a rollout that its own doing ended (max_turns, max_tokens, context_overflow, parse_error) before the
        world gave any reward; null leaves it unscored. Faults of the world are unscored always."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label

    async def start(self) -> None:
        """Nothing to make ready."""

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, with the last turn's components."""
        return [self._score(rollout) for rollout in rollouts]

    async def close(self) -> None:
        """Nothing to stop."""

    def _score(self, rollout: Rollout) -> Score:
        components = dict(rollout.turns[-1].components) if rollout.turns else {}
        given = [(number, turn.reward) for number, turn in enumerate(rollout.turns) if turn.reward is not None]
        if given:
            return Score(scorer=self.name, value=self._value(given), components=components)
        reason = f"the world gave no reward in {len(rollout.turns)} turns"
        own_doing = rollout.truncated or rollout.stop_reason == StopReason.PARSE_ERROR
        if own_doing and self.config.unfinished is not None:
            reason = f"{reason}, which ended with {rollout.stop_reason.value}"
            return Score(scorer=self.name, value=self.config.unfinished, components=components, reason=reason)
        return Score(scorer=self.name, components=components, error_kind="no_reward", reason=reason)

    def _value(self, given: Sequence[tuple[int, float]]) -> float:
        if self.config.take == "last":
            return given[-1][1]
        return sum(self.config.discount**number * reward for number, reward in given)
