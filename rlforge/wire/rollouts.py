"""Tasks and rollouts on the wire: what a reward endpoint sees of them. Tokens stay at home."""

from __future__ import annotations

from rlforge.errors import DataError
from rlforge.types import Completion, FinishReason, Rollout, RolloutKey, StopReason, Task, Turn
from rlforge.wire.messages import decode_message, encode_message
from rlforge.wire.pb import types_pb2 as pb
from rlforge.wire.refusal import refuses
from rlforge.wire.values import get_struct, get_value, put_struct, put_value


@refuses("a task")
def encode_task(task: Task) -> pb.Task:
    """A problem to attempt."""
    sent = pb.Task(id=task.id, messages=[encode_message(message) for message in task.messages], source=task.source)
    if task.answer is not None:
        put_value(task.answer, sent.answer)
    put_struct(task.info, sent.info)
    return sent


def decode_task(task: pb.Task) -> Task:
    """The task that was sent."""
    return Task(
        id=task.id,
        messages=tuple(decode_message(message) for message in task.messages),
        answer=get_value(task.answer) if task.HasField("answer") else None,
        info=get_struct(task.info),
        source=task.source,
    )


@refuses("a rollout")
def encode_rollout(rollout: Rollout) -> pb.Rollout:
    """An attempt with all below it, as text and facts."""
    versions = [version for turn in rollout.turns for version in turn.completion.policy_versions]
    return pb.Rollout(
        id=rollout.id,
        task=encode_task(rollout.task),
        turns=[_encode_turn(turn) for turn in rollout.turns],
        stop_reason=rollout.stop_reason.value,
        role=rollout.role,
        parent=rollout.parent,
        children=[encode_rollout(child) for child in rollout.children],
        group=rollout.key.group,
        member=rollout.key.member,
        oldest_version=min(versions, default=None),
        newest_version=max(versions, default=None),
        epoch=rollout.key.epoch,
        attempt=rollout.key.attempt,
    )


def decode_rollout(rollout: pb.Rollout) -> Rollout:
    """The rollout that was sent, with as many tokens per turn as it says, all of id 0: their values stayed behind.

    Raises DataError for a stop reason that is none.
    """
    if rollout.stop_reason not in list(StopReason):
        known = ", ".join(reason.value for reason in StopReason)
        raise DataError(
            f"rollout '{rollout.id}' has the stop reason '{rollout.stop_reason}'; it must be one of {known}"
        )
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
        turns=tuple(_decode_turn(turn, version) for turn in rollout.turns),
        stop_reason=StopReason(rollout.stop_reason),
        role=rollout.role,
        parent=rollout.parent if rollout.HasField("parent") else None,
        children=tuple(decode_rollout(child) for child in rollout.children),
    )


def _encode_turn(turn: Turn) -> pb.Turn:
    sent = pb.Turn(
        message=encode_message(turn.message),
        observation=[encode_message(message) for message in turn.observation],
        reward=turn.reward,
        prompt_tokens=len(turn.prompt_ids),
        completion_tokens=len(turn.completion.token_ids),
        components=turn.components,
    )
    put_struct(turn.info, sent.info)
    return sent


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
        observation=tuple(decode_message(message) for message in turn.observation),
        reward=turn.reward if turn.HasField("reward") else None,
        components=dict(turn.components),
        info=get_struct(turn.info),
    )
