"""What a reward endpoint is asked to judge: rollouts that somebody gave, or sums that are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlforge.types import Completion, FinishReason, Message, Rollout, RolloutKey, StopReason, Task, Turn

_FEWEST = 2


def made_up_rollouts(count: int = 8) -> list[Rollout]:
    """Sums with right, wrong and empty replies in turn."""
    return [_attempt(_sum(number), number, _reply(number)) for number in range(count)]


def replied(rollout: Rollout, reply: str) -> Rollout:
    """The same attempt with another last reply."""
    return _attempt(rollout.task, rollout.key.member, reply)


def enough(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """At least two, so that there is an order; the same again where there are fewer."""
    return list(rollouts) * (_FEWEST if len(rollouts) < _FEWEST else 1)


def senseless(rollout: Rollout) -> Rollout:
    """What no scorer can judge: nothing was said, on a task that nobody set, and the world had broken."""
    task = Task(id="check/senseless", messages=())
    return replace(
        rollout,
        key=RolloutKey(task_id=task.id, group=task.id),
        task=task,
        turns=(),
        stop_reason=StopReason.ENVIRONMENT_ERROR,
    )


def _sum(number: int) -> Task:
    question = Message.of("user", f"{number}+{number}=")
    return Task(id=f"check/{number}", messages=(question,), answer=str(2 * number), source="check")


def _reply(number: int) -> str:
    return (str(2 * number), str(2 * number + 1), "")[number % 3]


def _attempt(task: Task, member: int, reply: str) -> Rollout:
    completion = Completion(token_ids=(), logprobs=(), policy_versions=(), finish_reason=FinishReason.STOP)
    turn = Turn(prompt_ids=(), completion=completion, message=Message.of("assistant", reply))
    key = RolloutKey(task_id=task.id, group=task.id, member=member)
    return Rollout(key=key, task=task, seed=0, turns=(turn,), stop_reason=StopReason.COMPLETED)
