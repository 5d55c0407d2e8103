"""Stops a run whose rewards are mostly missing, and says why they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlforge.errors import TooManyUnscored
from rlforge.types import Reward, Score

_FAULT = "fault"
_WAY_OUT = {
    False: "Repair the scorer (`rlforge reward check` runs a function alone, `rlforge check reward` asks an endpoint)",
    True: "Where it is a fault, the rollout itself failed before a scorer was asked: repair what it names "
    "(`rlforge check environment` plays an environment alone)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnscoredGuard:
    """Keeps no state: judges the rewards it is given, a step's worth or a sliding window.

    Example: `UnscoredGuard(max_unscored=router.config.max_unscored).check(rewards, during="step 7")`.
    """

    max_unscored: float
    """Share of the rewards that may be None, in [0, 1]."""

    def check(self, rewards: Sequence[Reward | None], during: str) -> None:
        """Raise TooManyUnscored, with the commonest kinds and an example, when more are missing than may be."""
        missing = [reward for reward in rewards if reward is None or reward.value is None]
        if len(missing) <= self.max_unscored * len(rewards):
            return
        kinds = Counter(kind for reward in missing for kind in error_kinds(reward))
        commonest = ", ".join(f"{kind} x{count}" for kind, count in kinds.most_common(3))
        example = next((reward.reason for reward in missing if reward and reward.reason), "no reason was given")
        raise TooManyUnscored(
            f"{during}: {len(missing)} of {len(rewards)} rollouts are unscored ({commonest}), more than "
            f"max_unscored={self.max_unscored:g} allows. For example: {example}. {_WAY_OUT[_FAULT in kinds]} "
            "or raise rewards.max_unscored"
        )


def error_kinds(reward: Reward | None) -> list[str]:
    """Error kinds behind a missing reward; `fault` where the rollout itself failed and no scorer was asked."""
    failed: list[Score] = [score for score in reward.scores if not score.scored] if reward else []
    return sorted({score.error_kind or "unknown" for score in failed}) or [_FAULT]
