"""Tasks and rollouts on the wire: what a reward endpoint sees of them. Tokens stay at home."""

from __future__ import annotations

from rlforge.errors import DataError
from rlforge.types import Completion, FinishReason, Rollout, RolloutKey, StopReason, Task, Turn
from rlforge.wire.messages import decode_message, put_message
from rlforge.wire.pb import types_pb2 as pb
from rlforge.wire.refusal import refuses
from rlforge.wire.values import get_struct, get_value, put_struct, put_value

_STOP_REASONS = {reason.value: reason for reason in StopReason}


@refuses("a task")
def encode_task(task: Task) -> pb.Task:
    """A problem to attempt."""
    sent = pb.Task()
    put_task(task, sent)
    return sent


def put_task(task: Task, into: pb.Task) -> None:
    """Write a task where it is to stand."""
    into.id = task.id
    into.source = task.source
    for message in task.messages:
        put_message(message, into.messages.add())
    if task.answer is not None:
        put_value(task.answer, into.answer)
    if task.info:
        put_struct(task.info, into.info)


def decode_task(task: pb.Task) -> Task:
    """The task that was sent."""
    return Task(
        id=task.id,
        messages=tuple([decode_message(message) for message in task.messages]),
        answer=get_value(task.answer) if task.HasField("answer") else None,
        info=get_struct(task.info) if task.HasField("info") else {},
        source=task.source,
    )


@refuses("a rollout")
def encode_rollout(rollout: Rollout) -> pb.Rollout:
    """An attempt with all below it, as text and facts."""
    sent = pb.Rollout()
    put_rollout(rollout, sent)
    return sent


def put_rollout(rollout: Rollout, into: pb.Rollout) -> None:
    """Write a rollout where it is to stand."""
    key = rollout.key
    into.id = key.rollout_id
    put_task(rollout.task, into.task)
    for message in rollout.opening:
        put_message(message, into.opening.add())
    for turn in rollout.turns:
        _put_turn(turn, into.turns.add())
    into.stop_reason = rollout.stop_reason.value
    into.role = rollout.role
    if rollout.parent is not None:
        into.parent = rollout.parent
    for child in rollout.children:
        put_rollout(child, into.children.add())
    into.group, into.member, into.epoch, into.attempt = key.group, key.member, key.epoch, key.attempt
    versions = [turn.completion.policy_versions for turn in rollout.turns if turn.completion.policy_versions]
    if versions:
        into.oldest_version = min(map(min, versions))
        into.newest_version = max(map(max, versions))


def decode_rollout(rollout: pb.Rollout) -> Rollout:
    """The rollout that was sent, with as many tokens per turn as it says, all of id 0: their values stayed behind.

    A stop reason that is not known reads as `other`. Raises DataError where there is none.
    """
    if not rollout.stop_reason:
        raise DataError(f"rollout '{rollout.id}' has no stop reason; give one of {', '.join(_STOP_REASONS)}")
    version = rollout.newest_version if rollout.HasField("newest_version") else 0
    task = decode_task(rollout.task)
    return Rollout(
        key=RolloutKey(
            task_id=task.id,
            epoch=rollout.epoch,
            group=rollout.group,
            member=rollout.member,
            attempt=rollout.attempt,
        ),
        task=task,
        seed=0,
        turns=tuple([_decode_turn(turn, version) for turn in rollout.turns]),
        stop_reason=_STOP_REASONS.get(rollout.stop_reason, StopReason.OTHER),
        opening=tuple([decode_message(message) for message in rollout.opening]),
        role=rollout.role,
        parent=rollout.parent if rollout.HasField("parent") else None,
        children=tuple([decode_rollout(child) for child in rollout.children]),
    )


def _put_turn(turn: Turn, into: pb.Turn) -> None:
    put_message(turn.message, into.message)
    for message in turn.observation:
        put_message(message, into.observation.add())
    if turn.reward is not None:
        into.reward = turn.reward
    into.prompt_tokens = len(turn.prompt_ids)
    into.completion_tokens = len(turn.completion.token_ids)
    if turn.components:
        into.components.update(turn.components)
    if turn.info:
        put_struct(turn.info, into.info)


def _decode_turn(turn: pb.Turn, version: int) -> Turn:
    count = turn.completion_tokens
    return Turn(
        prompt_ids=(0,) * turn.prompt_tokens,
        completion=Completion(
            token_ids=(0,) * count,
            logprobs=(0.0,) * count,
            policy_versions=(version,) * count,
            finish_reason=FinishReason.STOP,
        ),
        message=decode_message(turn.message),
        observation=tuple([decode_message(message) for message in turn.observation]),
        reward=turn.reward if turn.HasField("reward") else None,
        components=dict(turn.components),
        info=get_struct(turn.info) if turn.HasField("info") else {},
    )
