"""The guard against rewards that are mostly missing."""

import pytest

from rlforge.errors import TooManyUnscored
from rlforge.rewards.guard import UnscoredGuard
from rlforge.types import Reward, Score


def missing(kind, why):
    return Reward(value=None, scores=(Score(scorer="tests", error_kind=kind, reason=why),), reason=f"scorer: {why}")


def test_share_up_to_the_limit_is_allowed():
    UnscoredGuard(max_unscored=0.5).check([Reward(value=0.0), missing("timeout", "slow")], during="step 1")
    UnscoredGuard(max_unscored=0.0).check([], during="step 1")


def test_share_above_the_limit_stops_the_run_with_kinds_and_an_example():
    rewards = [
        Reward(value=1.0),
        missing("timeout", "slow"),
        missing("timeout", "slow"),
        missing("crash", "gone"),
        None,
    ]
    with pytest.raises(TooManyUnscored) as stopped:
        UnscoredGuard(max_unscored=0.5).check(rewards, during="step 7")
    said = str(stopped.value)
    assert said.startswith("step 7: 4 of 5 rollouts are unscored (timeout x2, ")
    assert "crash x1" in said
    assert "fault x1" in said
    assert "For example: scorer: slow" in said
    assert "max_unscored=0.5" in said


def test_advice_is_about_the_scorer_or_about_what_broke_before_it_was_asked():
    broken = Reward(value=None, reason="the rollout ended with environment_error: gone")
    with pytest.raises(TooManyUnscored, match=r"gone\. Where it is a fault.*rlforge check environment"):
        UnscoredGuard(max_unscored=0.5).check([broken], during="step 7")
    with pytest.raises(TooManyUnscored, match=r"slow\. Repair the scorer .*rlforge reward check"):
        UnscoredGuard(max_unscored=0.5).check([missing("timeout", "slow")], during="step 7")
