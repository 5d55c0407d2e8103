"""Environments on the wire: what they are, how a world starts, what it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlforge.errors import DataError
from rlforge.types import EnvironmentSpec, Message, Observation, WorldStart
from rlforge.wire.messages import decode_message, decode_tool, encode_tool, put_message, put_tool
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.refusal import refuses
from rlforge.wire.rollouts import decode_task, put_task
from rlforge.wire.values import get_struct, put_struct
from rlforge.wire.version import PROTOCOL_VERSION, refuse_other_protocols


@refuses("the spec of an environment")
def encode_spec(spec: EnvironmentSpec) -> pb.EnvironmentSpec:
    """What kind of world an environment has."""
    return pb.EnvironmentSpec(
        name=spec.name,
        version=spec.version,
        protocol_version=PROTOCOL_VERSION,
        splits=[pb.Split(name=name, tasks=tasks) for name, tasks in spec.splits.items()],
        tools=[encode_tool(tool) for tool in spec.tools],
        max_worlds=spec.max_worlds,
        deterministic=spec.deterministic,
        step_timeout_s=spec.step_timeout_s,
        max_action_bytes=spec.max_action_bytes,
    )


def decode_spec(spec: pb.EnvironmentSpec) -> EnvironmentSpec:
    """The spec that was sent. Raises EndpointRefused for another protocol."""
    refuse_other_protocols(spec.protocol_version, f"environment '{spec.name}'")
    return EnvironmentSpec(
        name=spec.name,
        version=spec.version,
        splits={split.name: split.tasks for split in spec.splits},
        tools=tuple(decode_tool(tool) for tool in spec.tools),
        max_worlds=spec.max_worlds,
        deterministic=spec.deterministic,
        step_timeout_s=spec.step_timeout_s,
        max_action_bytes=spec.max_action_bytes,
    )


@refuses("the start of a world")
def encode_start(start: WorldStart) -> pb.Action:
    """Step 0: what a world begins with."""
    sent = pb.Action(step=0)
    into = sent.start
    put_task(start.task, into.task)
    into.seed, into.rollout_id = start.seed, start.rollout_id
    into.group, into.member, into.attempt = start.group, start.member, start.attempt
    into.step_timeout_s, into.lifetime_s = start.step_timeout_s, start.lifetime_s
    return sent


def decode_start(start: pb.WorldStart) -> WorldStart:
    """The start that was sent."""
    return WorldStart(
        task=decode_task(start.task),
        seed=start.seed,
        rollout_id=start.rollout_id,
        group=start.group,
        member=start.member,
        attempt=start.attempt,
        step_timeout_s=start.step_timeout_s,
        lifetime_s=start.lifetime_s,
    )


@refuses("a reply")
def encode_reply(step: int, reply: Message) -> pb.Action:
    """A later step: the model's reply."""
    sent = pb.Action(step=step)
    put_message(reply, sent.message)
    return sent


@refuses("an observation")
def encode_observation(step: int, observation: Observation) -> pb.Observation:
    """What the world shows after a step."""
    sent = pb.Observation(step=step, terminated=observation.terminated, truncated=observation.truncated)
    for message in observation.messages:
        put_message(message, sent.messages.add())
    if observation.reward is not None:
        sent.reward = observation.reward
    if observation.components:
        sent.components.update(observation.components)
    for tool in observation.tools:
        put_tool(tool, sent.tools.add())
    if observation.info:
        put_struct(observation.info, sent.info)
    return sent


def decode_observation(observation: pb.Observation) -> Observation:
    """The observation that was sent. Raises DataError for a reward or component that is not finite."""
    reward = observation.reward if observation.HasField("reward") else None
    components = dict(observation.components) if observation.components else {}
    if reward is not None or components:
        _refuse_endless(observation.step, {"reward": reward or 0.0, **components})
    return Observation(
        messages=tuple([decode_message(message) for message in observation.messages]),
        reward=reward,
        components=components,
        terminated=observation.terminated,
        truncated=observation.truncated,
        info=get_struct(observation.info) if observation.HasField("info") else {},
        tools=tuple([decode_tool(tool) for tool in observation.tools]) if observation.tools else (),
    )


def _refuse_endless(step: int, numbers: Mapping[str, float]) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise DataError(f"the '{name}' of step {step} is {number}; it must be finite or absent")
