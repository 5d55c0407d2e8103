"""What is sent arrives as it was; what cannot be sent is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as some

from rlforge.errors import DataError, EndpointRefused
from rlforge.types import (
    Completion,
    EnvironmentSpec,
    FinishReason,
    ImagePart,
    JsonPart,
    Message,
    Observation,
    Rollout,
    RolloutKey,
    Score,
    ScorerSpec,
    StopReason,
    Task,
    TensorPart,
    TextPart,
    ToolCall,
    ToolSpec,
    Turn,
    WorldStart,
)
from rlforge.wire.json import from_json, to_json
from rlforge.wire.messages import decode_message, decode_tool, encode_message, encode_tool
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2
from rlforge.wire.rollouts import decode_rollout, decode_task, encode_rollout, encode_task
from rlforge.wire.scores import (
    decode_score,
    decode_score_request,
    decode_scorer_spec,
    encode_score,
    encode_score_request,
    encode_scorer_spec,
)
from rlforge.wire.values import DEEPEST, get_struct, get_value, put_struct, put_value
from rlforge.wire.worlds import (
    decode_observation,
    decode_spec,
    decode_start,
    encode_observation,
    encode_reply,
    encode_spec,
    encode_start,
)
from tests.unit.wire.examples import CALL, OBSERVATION, ROLLOUT, SCORER, SPEC, TASK

texts = some.text(max_size=12)
counts = some.integers(0, 2**32 - 1)
floats = some.floats(allow_nan=False, allow_infinity=False)
numbers = some.integers(-(2**53), 2**53) | floats
json_values = some.recursive(
    some.none() | some.booleans() | numbers | texts,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
structs = some.dictionaries(texts, json_values, max_size=3)
components = some.dictionaries(texts, floats, max_size=3)
parts = (
    some.builds(TextPart, text=texts)
    | some.builds(ImagePart, data=some.binary(max_size=9), mime=texts)
    | some.builds(JsonPart, value=json_values)
    | some.builds(TensorPart, dtype=texts, shape=some.tuples(counts, counts), data=some.binary(max_size=9))
)
messages = some.builds(
    Message,
    role=some.sampled_from(["system", "user", "assistant", "tool"]),
    content=some.lists(parts, max_size=3).map(tuple),
    tool_calls=some.lists(some.builds(ToolCall, id=texts, name=texts, arguments=texts), max_size=2).map(tuple),
    tool_call_id=some.none() | texts,
)
message_lists = some.lists(messages, max_size=2).map(tuple)
tasks = some.builds(Task, id=texts, messages=message_lists, answer=json_values, info=structs, source=texts)
tools = some.builds(ToolSpec, name=texts, description=texts, parameters=structs)
observations = some.builds(
    Observation,
    messages=message_lists,
    reward=some.none() | floats,
    components=components,
    terminated=some.booleans(),
    truncated=some.booleans(),
    info=structs,
    tools=some.lists(tools, max_size=1).map(tuple),
)
starts = some.builds(
    WorldStart,
    task=tasks,
    seed=counts,
    rollout_id=texts,
    group=texts,
    member=counts,
    attempt=counts,
    step_timeout_s=floats,
    lifetime_s=floats,
)
specs = some.builds(
    EnvironmentSpec,
    name=texts,
    version=texts,
    splits=some.dictionaries(texts, counts, max_size=2),
    tools=some.lists(tools, max_size=2).map(tuple),
    max_worlds=counts,
    deterministic=some.booleans(),
    step_timeout_s=floats,
    max_action_bytes=counts,
)
scores = some.builds(
    Score, scorer=some.just("referee"), value=floats, components=components, reason=texts
) | some.builds(
    Score, scorer=some.just("referee"), error_kind=texts.filter(bool), reason=texts, retryable=some.booleans()
)


@some.composite
def turns(draw: Any) -> Turn:
    tokens = draw(some.integers(0, 4))
    completion = Completion(
        token_ids=(0,) * tokens,
        logprobs=(0.0,) * tokens,
        policy_versions=(3,) * tokens,
        finish_reason=FinishReason.STOP,
    )
    return Turn(
        prompt_ids=(0,) * draw(some.integers(0, 4)),
        completion=completion,
        message=draw(messages),
        observation=draw(message_lists),
        reward=draw(some.none() | floats),
        components=draw(components),
        info=draw(structs),
    )


@some.composite
def rollouts(draw: Any, depth: int = 0) -> Rollout:
    task = draw(tasks)
    key = RolloutKey(task_id=task.id, epoch=draw(counts), group=draw(texts), member=draw(counts), attempt=draw(counts))
    return Rollout(
        key=key,
        task=task,
        seed=0,
        turns=tuple(draw(some.lists(turns(), max_size=2))),
        stop_reason=draw(some.sampled_from(StopReason)),
        opening=tuple(draw(some.lists(messages, max_size=1))),
        role=draw(texts),
        parent=draw(some.none() | texts),
        children=tuple(draw(some.lists(rollouts(depth + 1), max_size=1))) if depth < 2 else (),
    )


def over_the_wire(message: Any) -> Any:
    """Through bytes, as gRPC sends it, and through JSON, as HTTP does: both must agree."""
    received = type(message).FromString(message.SerializeToString())
    assert from_json(to_json(message), type(message)) == received
    return received


# --- round trips ---------------------------------------------------------------------------------------------------


@given(json_values)
def test_any_json_value_arrives_as_it_was(given_value: Any) -> None:
    sent = types_pb2.ContentPart()
    put_value(given_value, sent.json)
    assert get_value(over_the_wire(sent).json) == given_value


@given(structs)
def test_any_mapping_arrives_as_it_was_and_in_the_same_order_in_every_process(mapping: dict[str, Any]) -> None:
    sent = Struct()
    put_struct(mapping, sent)
    arrived = get_struct(over_the_wire(sent))
    assert arrived == mapping
    assert list(arrived) == sorted(mapping)


@given(some.integers(-(2**53), 2**53))
def test_a_whole_number_stays_one(number: int) -> None:
    sent = Value()
    put_value(number, sent)
    assert isinstance(get_value(sent), int)


@given(messages)
def test_message_of_all_kinds_of_parts_arrives_as_it_was(message: Message) -> None:
    assert decode_message(over_the_wire(encode_message(message))) == message


@given(tools)
def test_tool_arrives_as_it_was(tool: ToolSpec) -> None:
    assert decode_tool(over_the_wire(encode_tool(tool))) == tool


@given(tasks)
def test_task_arrives_as_it_was(task: Task) -> None:
    assert decode_task(over_the_wire(encode_task(task))) == task


@given(rollouts())
def test_rollout_arrives_with_its_tree_and_its_id_but_without_tokens(rollout: Rollout) -> None:
    arrived = decode_rollout(over_the_wire(encode_rollout(rollout)))
    assert arrived == rollout
    assert arrived.id == rollout.id


@given(observations, counts)
def test_observation_arrives_as_it_was(observation: Observation, step: int) -> None:
    sent = over_the_wire(encode_observation(step, observation))
    assert decode_observation(sent) == observation
    assert sent.step == step


@given(starts)
def test_start_of_a_world_arrives_as_it_was(start: WorldStart) -> None:
    sent = over_the_wire(encode_start(start))
    assert sent.step == 0
    assert decode_start(sent.start) == start


@given(specs)
def test_spec_of_an_environment_arrives_as_it_was(spec: EnvironmentSpec) -> None:
    assert decode_spec(over_the_wire(encode_spec(spec))) == spec


@given(scores)
def test_score_arrives_as_it_was(score: Score) -> None:
    sent = over_the_wire(encode_score("item", score))
    assert sent.id == "item"
    assert decode_score(sent, "referee") == score


def test_reply_carries_its_step() -> None:
    sent = over_the_wire(encode_reply(7, CALL))
    assert sent.step == 7
    assert decode_message(sent.message) == CALL


def test_batch_of_rollouts_arrives_by_id() -> None:
    sent = over_the_wire(encode_score_request({"a": ROLLOUT, "b": ROLLOUT}, "request-1"))
    assert sent.request_id == "request-1"
    assert list(decode_score_request(sent)) == ["a", "b"]


def test_spec_of_a_scorer_arrives_as_it_was() -> None:
    assert decode_scorer_spec(over_the_wire(encode_scorer_spec(SCORER))) == SCORER


def test_a_turn_without_reward_does_not_become_one_with_reward_zero() -> None:
    assert decode_observation(encode_observation(1, Observation())).reward is None
    assert decode_observation(encode_observation(1, Observation(reward=0.0))).reward == 0.0


# --- what cannot be sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unsendable", "why"),
    [
        (2**53 + 1, "more than 53 bits"),
        (math.nan, "which JSON cannot hold"),
        (-math.inf, "which JSON cannot hold"),
        (b"bytes", "type bytes cannot travel"),
        ({1, 2}, "type set cannot travel"),
        ({3: "three"}, "has the key 3; JSON has only text keys"),
        ([{"deep": object()}], "type object cannot travel"),
    ],
)
def test_value_that_json_cannot_hold_is_refused(unsendable: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        encode_task(replace(TASK, info={"given": unsendable}))


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"in": value}])
def test_deepest_value_arrives_at_the_far_end_of_a_rollout_and_a_deeper_one_is_refused(wrap: Any) -> None:
    value: Any = 1
    for _ in range(DEEPEST):
        value = wrap(value)
    said = Message(role="user", content=(JsonPart(value=value),))
    turn = replace(ROLLOUT.turns[0], observation=(said,))
    child = replace(ROLLOUT, turns=(turn,), children=())
    parent = replace(ROLLOUT, turns=(), children=(replace(ROLLOUT, turns=(), children=(child,)),))
    arrived = decode_score_request(over_the_wire(encode_score_request({"a": parent}, "r")))["a"]
    assert arrived.children[0].children[0].turns[0].observation == (said,)
    with pytest.raises(DataError, match=f"more than {DEEPEST} levels deep"):
        encode_message(Message(role="user", content=(JsonPart(value=wrap(value)),)))


def test_half_a_surrogate_is_refused_as_ours() -> None:
    with pytest.raises(DataError, match=r"a reply cannot travel|a message cannot travel"):
        encode_reply(1, Message.of("assistant", "\ud800"))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_beyond_32_bits_is_refused(seed: int) -> None:
    with pytest.raises(DataError, match="the start of a world cannot travel"):
        encode_start(WorldStart(task=TASK, seed=seed))


# --- what makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["", "robot", "System"])
def test_unknown_role_is_malformed(role: str) -> None:
    with pytest.raises(DataError, match=f"has the role '{role}'; it must be one of"):
        decode_message(types_pb2.Message(role=role))


def test_empty_content_part_is_malformed() -> None:
    with pytest.raises(DataError, match="empty content part"):
        decode_message(types_pb2.Message(role="user", content=[types_pb2.ContentPart()]))


def test_a_stop_reason_of_a_newer_peer_reads_as_another_and_none_is_malformed() -> None:
    assert decode_rollout(types_pb2.Rollout(id="a", stop_reason="preempted")).stop_reason is StopReason.OTHER
    with pytest.raises(DataError, match="rollout 'a' has no stop reason"):
        decode_rollout(types_pb2.Rollout(id="a"))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_malformed_wherever_it_stands(number: float) -> None:
    for observation in (
        environment_pb2.Observation(step=1, reward=number),
        environment_pb2.Observation(step=1, components={"part": number}),
        environment_pb2.Observation(step=1, info={"fields": {"part": {"number_value": number}}}),  # pyright: ignore
    ):
        with pytest.raises(DataError, match=str(number)):
            decode_observation(observation)


@pytest.mark.parametrize("items", [["a", "a"], ["a", ""], [""]])
def test_batch_whose_items_cannot_be_told_apart_is_malformed(items: list[str]) -> None:
    request = encode_score_request({"a": ROLLOUT}, "r")
    with pytest.raises(DataError, match="every item needs an id of its own"):
        decode_score_request(
            reward_pb2.ScoreRequest(
                request_id="r",
                items=[reward_pb2.ScoreItem(id=item, rollout=request.items[0].rollout) for item in items],
            )
        )


@pytest.mark.parametrize(
    "sent",
    [
        types_pb2.Score(id="a"),
        types_pb2.Score(id="a", scored=types_pb2.Scored()),
        types_pb2.Score(id="a", scored=types_pb2.Scored(reason="fine", components={"right": 1.0})),
        types_pb2.Score(id="a", scored=types_pb2.Scored(value=math.nan)),
        types_pb2.Score(id="a", scored=types_pb2.Scored(value=math.inf)),
        types_pb2.Score(id="a", scored=types_pb2.Scored(value=1.0, components={"right": math.nan})),
        from_json({"id": "a", "scored": {}}, types_pb2.Score),
        from_json({"id": "a", "scored": {"value": None}}, types_pb2.Score),
        from_json({"id": "a", "scored": None}, types_pb2.Score),
        from_json({"id": "a", "value": 1.0}, types_pb2.Score),
    ],
)
def test_score_without_a_finite_value_is_malformed_and_never_a_zero(sent: types_pb2.Score) -> None:
    score = decode_score(sent, "referee")
    assert (score.value, score.error_kind) == (None, "malformed")
    assert score.reason


def test_unscored_without_a_kind_was_declined() -> None:
    score = decode_score(from_json({"id": "a", "unscored": {}}, types_pb2.Score), "referee")
    assert (score.value, score.error_kind, score.retryable) == (None, "declined", False)


def test_value_of_zero_is_a_score() -> None:
    assert decode_score(from_json({"id": "a", "scored": {"value": 0}}, types_pb2.Score), "referee").value == 0.0


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_of_the_protocol_is_refused(version: int) -> None:
    environment, scorer = encode_spec(SPEC), encode_scorer_spec(ScorerSpec(name="referee"))
    environment.protocol_version = scorer.protocol_version = version
    with pytest.raises(EndpointRefused, match=f"environment 'boxes' speaks protocol version {version}, .* speaks 1"):
        decode_spec(environment)
    with pytest.raises(EndpointRefused, match=f"scorer 'referee' speaks protocol version {version}"):
        decode_scorer_spec(scorer)


def test_field_of_a_newer_protocol_is_skipped_on_the_wire() -> None:
    unknown_field_99 = b"\x9a\x06\x03new"
    sent = encode_observation(1, OBSERVATION).SerializeToString() + unknown_field_99
    assert decode_observation(environment_pb2.Observation.FromString(sent)) == OBSERVATION
