"""Rollouts of one turn, for tests of whatever comes after generation."""

from __future__ import annotations

from typing import Any

from rlforge.types import (
    Completion,
    FinishReason,
    Message,
    Rollout,
    RolloutKey,
    StopReason,
    Task,
    Turn,
)


def rollout(
    reply: str = "46",
    *,
    answer: Any = "46",
    member: int = 0,
    task: str = "addition/0",
    source: str = "addition",
    info: dict[str, Any] | None = None,
    stop_reason: StopReason = StopReason.COMPLETED,
    error: str = "",
) -> Rollout:
    """An attempt at 12+34, with plausible tokens."""
    completion = Completion(
        token_ids=(5, 6, 7, 2),
        logprobs=(-0.1, -0.2, -0.3, -0.4),
        policy_versions=(3, 3, 3, 3),
        finish_reason=FinishReason.STOP,
    )
    question = Task(id=task, messages=(Message.of("user", "12+34="),), answer=answer, info=info or {}, source=source)
    turn = Turn(
        prompt_ids=tuple(range(20)),
        completion=completion,
        message=Message.of("assistant", reply),
        reward=float(reply == answer),
    )
    key = RolloutKey(task_id=task, group=f"{task}@0", member=member)
    return Rollout(key=key, task=question, seed=member, turns=(turn,), stop_reason=stop_reason, error=error)
