"""Whether the tasks' reference answers earn the reward, and whether nonsense does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rlforge.checks.environment.actions import Replies, reference_replies, reply_of
from rlforge.checks.environment.case import EnvironmentCase
from rlforge.checks.properties import Failed, Property, Skipped
from rlforge.wire.pb import environment_pb2, types_pb2

_TASKS = 16
"""Tasks whose reference is tried."""
_TURNS = 64
_NONSENSE = "rlforge check: a reply that solves nothing"


async def reference_answer_earns_the_reward(case: EnvironmentCase) -> str:
    """What the task says is right earns a reward above 0, and more than nonsense earns."""
    numbers = [number for number, task in enumerate(case.tasks) if _reference(case, task)][:_TASKS]
    if not numbers:
        raise Skipped(
            "no task says what is right: give it `info.actions`, a list of replies, or an answer to reply with"
        )
    right = await _returns(case, numbers, Replies(source="", of=lambda task: _reference(case, task), endless=False))
    if all(reward is None for reward in right):
        raise Skipped("the environment gives no rewards: scorers judge its rollouts, and `rlforge check reward` them")
    nonsense = [reply_of(_NONSENSE)]
    wrong = await _returns(case, numbers, Replies(source="", of=lambda task: nonsense, endless=False))
    short = [
        f"task '{case.tasks[number].id}': the reference earned {_told(one)}, nonsense {_told(other)}"
        for number, one, other in zip(numbers, right, wrong, strict=True)
        if one is None or one <= max(other or 0.0, 0.0)
    ]
    if short:
        raise Failed(f"{len(short)} of {len(numbers)} tasks: {'; '.join(short[:3])}")
    earned = [reward for reward in right if reward is not None]
    return f"{len(numbers)} references earned {min(earned):g} to {max(earned):g}"


async def _returns(case: EnvironmentCase, numbers: Sequence[int], replies: Replies) -> list[float | None]:
    replying = replace(case, replies=replies)
    returns: list[float | None] = []
    for first in range(0, len(numbers), case.together):
        some = numbers[first : first + case.together]
        plays = await asyncio.gather(*(replying.play(case.start(number, seed=number), _TURNS) for number in some))
        returns += [_sum(seen) for seen in plays]
    return returns


def _reference(case: EnvironmentCase, task: types_pb2.Task) -> Sequence[types_pb2.Message]:
    return reference_replies(task, answer_is_a_reply=not case.spec.tools)


def _sum(seen: Sequence[environment_pb2.Observation]) -> float | None:
    """The rewards of all steps together; None where no step had one."""
    rewards = [observation.reward for observation in seen if observation.HasField("reward")]
    return sum(rewards) if rewards else None


def _told(reward: float | None) -> str:
    return "nothing" if reward is None else f"{reward:g}"


PROPERTIES = (
    Property(
        "the reference answer earns the reward",
        reference_answer_earns_the_reward,
        why="a policy cannot learn what the environment does not reward",
        remedy="play the reference yourself and see what the reward is made of; then mend the reward or the task",
    ),
)
"""In the order in which they are examined."""
