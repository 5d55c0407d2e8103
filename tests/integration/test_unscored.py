"""A rollout that could not be scored leaves everything as if it had not been drawn."""

from dataclasses import replace

import numpy as np

from rlforge.algorithms.grpo import GRPO
from rlforge.algorithms.rloo import RLOO
from rlforge.rewards.router import Router
from rlforge.tokens.trajectories import trajectories
from rlforge.types import Batch
from tests.rollouts import rollout

FUNCTION = """
import os

def reward(rollout):
    if rollout.key.member % 3 == 2:
        {failure}
    return (rollout.key.member * 7 % 5) / 4
"""
GROUPS, SIZE = 4, 9


async def rewarded(tmp_path, failure):
    """Four groups of nine rollouts, every third of which fails in the customer's function."""
    file = tmp_path / "customer.py"
    file.write_text(FUNCTION.format(failure=failure))
    scorer = {"type": "python", "function": f"{file}:reward", "attempts": 1}
    router = Router(Router.Config.parse({"scorers": [scorer]}))
    await router.start()
    try:
        drawn = [rollout(member=member, task=f"addition/{group}") for group in range(GROUPS) for member in range(SIZE)]
        rewards = await router.reward(drawn)
    finally:
        await router.close()
    return [replace(attempt, reward=reward) for attempt, reward in zip(drawn, rewards, strict=True)]


def credited(algorithm, rollouts):
    batch = Batch(trajectories=tuple(t for attempt in rollouts for t in trajectories(attempt)), objectives={})
    return {trajectory.rollout: trajectory.advantages for trajectory in algorithm.credit(batch).trajectories}


async def test_function_that_raises_for_every_third_rollout_leaves_the_baselines_of_the_rest_as_if_undrawn(tmp_path):
    rollouts = await rewarded(tmp_path, 'raise ValueError("no opinion")')
    failed = [attempt for attempt in rollouts if attempt.key.member % 3 == 2]
    assert all(attempt.reward.value is None for attempt in failed)
    assert {attempt.reward.scores[0].error_kind for attempt in failed} == {"exception"}
    rest = [attempt for attempt in rollouts if attempt.key.member % 3 != 2]
    for algorithm in (GRPO(GRPO.Config()), GRPO(GRPO.Config(std=False)), RLOO(RLOO.Config())):
        with_failures, without = credited(algorithm, rollouts), credited(algorithm, rest)
        assert list(with_failures) == [attempt.id for attempt in rest], "the unscored are not trained on"
        for attempt in rest:
            np.testing.assert_array_equal(with_failures[attempt.id], without[attempt.id])
        assert any(advantages.any() for advantages in without.values())


async def test_a_crash_or_an_answer_of_none_leaves_the_rest_as_a_raise_does(tmp_path):
    raised = credited(GRPO(GRPO.Config()), await rewarded(tmp_path, "raise ValueError"))
    for failure in ("os._exit(1)", "return None", "return float('nan')"):
        other = credited(GRPO(GRPO.Config()), await rewarded(tmp_path, failure))
        assert list(other) == list(raised)
        for attempt, advantages in raised.items():
            np.testing.assert_array_equal(other[attempt], advantages)
