"""Rollouts come out of a frame as they went in."""

import pickle
from dataclasses import replace

import pytest

from rlforge.rewards.python.frames import HEADER, decode, encode
from rlforge.types import (
    ImagePart,
    JsonPart,
    Message,
    Reward,
    Score,
    TensorPart,
    TextPart,
    ToolCall,
)
from tests.rollouts import rollout


def passed_on(rollouts):
    frame = encode(rollouts)
    count, size = HEADER.unpack(frame[: HEADER.size])
    assert (count, size) == (len(rollouts), len(frame) - HEADER.size)
    return decode(frame[HEADER.size :])


def test_every_kind_of_value_survives():
    parts = (
        TextPart(text="a"),
        ImagePart(data=b"\x00", mime="image/png"),
        JsonPart(value={"a": [1, None]}),
        TensorPart(dtype="float32", shape=(1,), data=b"\x00" * 4),
    )
    message = Message(role="assistant", content=parts, tool_calls=(ToolCall(id="1", name="f", arguments="{"),))
    plain = rollout(info={"nested": {"list": [1, 2.5, "x"]}})
    full = replace(
        plain,
        turns=(replace(plain.turns[0], message=message, observation=(Message.of("tool", "42"),), reward=0.5),),
        children=(rollout("child"),),
        reward=Reward(value=None, scores=(Score(scorer="a", error_kind="timeout"),), reason="why"),
        timings={"generate_s": 0.25},
    )
    assert passed_on([full, plain]) == [full, plain]


def test_values_stay_frozen():
    [back] = passed_on([rollout()])
    with pytest.raises(AttributeError):
        back.seed = 1


def test_members_of_a_group_share_their_task_still():
    first = rollout()
    shared = [first, replace(first, seed=1)]
    one, other = passed_on(shared)
    assert one.task is other.task
    assert len(encode(shared)) < 1.5 * len(encode([first]))


def test_what_cannot_be_sent_is_refused_by_pickle():
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        encode([rollout(answer=lambda: None)])
