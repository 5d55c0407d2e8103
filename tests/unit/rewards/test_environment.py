"""What the world gave becomes the rollout's reward, and nothing else does."""

from dataclasses import replace

import pytest

from rlforge.rewards.environment import EnvironmentScorer
from rlforge.types import StopReason
from tests.rollouts import rollout


def played(*rewards, stop_reason=StopReason.COMPLETED, components=None):
    base = rollout(stop_reason=stop_reason)
    turns = tuple(replace(base.turns[0], reward=reward, components=components or {}) for reward in rewards)
    return replace(base, turns=turns)


async def score(attempt, **settings):
    (given,) = await EnvironmentScorer(EnvironmentScorer.Config(**settings)).score([attempt])
    return given


async def test_rewards_of_all_turns_are_added_up():
    assert (await score(played(0.5, None, 1.0))).value == 1.5


async def test_a_discount_counts_later_turns_less():
    assert (await score(played(1.0, None, 4.0), discount=0.5)).value == 2.0


async def test_the_last_reward_can_be_taken_alone():
    assert (await score(played(0.5, 1.0, None), take="last")).value == 1.0


async def test_the_last_turns_components_are_told():
    assert dict((await score(played(1.0, components={"found": 1.0}))).components) == {"found": 1.0}


async def test_a_world_that_gave_nothing_leaves_its_rollout_unscored():
    given = await score(played(None, None))
    assert (given.value, given.error_kind) == (None, "no_reward")
    assert "no reward in 2 turns" in given.reason


@pytest.mark.parametrize(
    "ending", [StopReason.MAX_TURNS, StopReason.MAX_TOKENS, StopReason.CONTEXT_OVERFLOW, StopReason.PARSE_ERROR]
)
async def test_a_rollout_that_ended_itself_before_any_reward_is_worth_what_the_recipe_says(ending):
    attempt = played(None, stop_reason=ending)
    assert (await score(attempt)).value == 0.0
    assert (await score(attempt, unfinished=-1.0)).value == -1.0
    assert (await score(attempt, unfinished=None)).value is None
