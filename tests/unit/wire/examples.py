"""One example of every message, each field set: the golden files hold their JSON."""

from __future__ import annotations

from google.protobuf.message import Message as Sent

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
from rlforge.wire.messages import encode_message, encode_tool
from rlforge.wire.pb import environment_pb2, reward_pb2
from rlforge.wire.rollouts import encode_rollout, encode_task
from rlforge.wire.scores import encode_score, encode_score_request, encode_scorer_spec
from rlforge.wire.worlds import encode_observation, encode_spec, encode_start

QUESTION = Message(
    role="user",
    content=(
        TextPart(text="Which box is heavier?"),
        ImagePart(data=b"\x89PNG", mime="image/png"),
        JsonPart(value={"boxes": [1, 2.5], "labels": None, "open": True}),
        TensorPart(dtype="uint8", shape=(2, 2), data=bytes(4)),
    ),
)
CALL = Message(
    role="assistant",
    content=(TextPart(text="I weigh it."),),
    tool_calls=(ToolCall(id="call-1", name="weigh", arguments='{"box": 1}'),),
)
ANSWER = Message(role="tool", content=(TextPart(text="4 kg"),), tool_call_id="call-1")
LAST = Message.of("assistant", "The first.")
TASK = Task(
    id="boxes/7", messages=(QUESTION,), answer="first", info={"difficulty": 2, "tags": ["scale"]}, source="boxes"
)
WEIGH = ToolSpec(
    name="weigh",
    description="Weighs a box.",
    parameters={"type": "object", "properties": {"box": {"type": "integer"}}, "required": ["box"]},
)


def _turn(message: Message, prompt: int, tokens: int, *answer: Message, reward: float | None, part: float) -> Turn:
    sampled = Completion(
        token_ids=(0,) * tokens,
        logprobs=(0.0,) * tokens,
        policy_versions=(5,) * tokens,
        finish_reason=FinishReason.STOP,
    )
    return Turn(
        prompt_ids=(0,) * prompt,
        completion=sampled,
        message=message,
        observation=answer,
        reward=reward,
        components={"weighed": part},
        info={"scale": "left"},
    )


TURNS = (
    _turn(CALL, 40, 12, ANSWER, reward=0.25, part=1.0),
    _turn(LAST, 60, 6, reward=None, part=0.0),
)
CHILD = Rollout(
    key=RolloutKey(task_id="boxes/7", epoch=1, group="boxes/7@1", member=3, attempt=2),
    task=Task(id="boxes/7", messages=()),
    seed=0,
    turns=(),
    stop_reason=StopReason.CANCELLED,
    role="critic",
    parent="boxes/7@1#3.2",
)
ROLLOUT = Rollout(
    key=RolloutKey(task_id="boxes/7", epoch=1, group="boxes/7@1", member=3, attempt=2),
    task=TASK,
    seed=0,
    turns=TURNS,
    stop_reason=StopReason.COMPLETED,
    opening=(Message.of("user", "Two boxes."),),
    children=(CHILD,),
)
SPEC = EnvironmentSpec(
    name="boxes",
    version="3",
    splits={"train": 1000, "test": 50},
    tools=(WEIGH,),
    max_worlds=64,
    deterministic=True,
    step_timeout_s=2.5,
    max_action_bytes=65536,
)
START = WorldStart(
    task=TASK,
    seed=2**32 - 1,
    rollout_id="boxes/7@1#3.2",
    group="boxes/7@1",
    member=3,
    attempt=2,
    step_timeout_s=2.5,
    lifetime_s=600.0,
)
OBSERVATION = Observation(
    messages=(ANSWER,),
    reward=0.25,
    components={"weighed": 1.0},
    terminated=True,
    truncated=True,
    info={"scale": "left"},
    tools=(WEIGH,),
)
SCORER = ScorerSpec(name="referee", version="2", max_batch=32, max_concurrency=4)
SCORED = Score(scorer="referee", value=0.0, components={"right": 0.0, "short": 1.0}, reason="the second is heavier")
UNSCORED = Score(scorer="referee", error_kind="timeout", reason="the scale did not answer", retryable=True)


def _examples() -> dict[str, Sent]:
    message, task, rollout = encode_message(QUESTION), encode_task(TASK), encode_rollout(ROLLOUT)
    spec, start = encode_spec(SPEC), encode_start(START)
    request = encode_score_request({"boxes/7@1#3.2/1": ROLLOUT}, "request-9")
    scored, unscored = encode_score("boxes/7@1#3.2/1", SCORED), encode_score("boxes/7@1#3.2/2", UNSCORED)
    return {
        "Image": message.content[1].image,
        "Tensor": message.content[3].tensor,
        "ContentPart": message.content[2],
        "ToolCall": encode_message(CALL).tool_calls[0],
        "Message": message,
        "Task": task,
        "ToolSpec": encode_tool(WEIGH),
        "Turn": rollout.turns[0],
        "Rollout": rollout,
        "Score": scored,
        "Scored": scored.scored,
        "Unscored": unscored.unscored,
        "DescribeRequest": environment_pb2.DescribeRequest(),
        "EnvironmentSpec": spec,
        "Split": spec.splits[0],
        "ListTasksRequest": environment_pb2.ListTasksRequest(split="test", offset=10, limit=5),
        "Action": environment_pb2.Action(step=1, message=encode_message(CALL)),
        "WorldStart": start.start,
        "Observation": encode_observation(1, OBSERVATION),
        "DescribeScorerRequest": reward_pb2.DescribeScorerRequest(),
        "ScorerSpec": encode_scorer_spec(SCORER),
        "ScoreItem": request.items[0],
        "ScoreRequest": request,
        "ScoreResponse": reward_pb2.ScoreResponse(request_id="request-9", scores=[scored, unscored]),
    }


EXAMPLES = _examples()
"""By name of the message."""
