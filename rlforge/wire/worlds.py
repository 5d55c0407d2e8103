"""Environments on the wire: what they are, how a world starts, what it shows."""

from __future__ import annotations

import math

from rlforge.errors import DataError
from rlforge.types import EnvironmentSpec, Message, Observation, WorldStart
from rlforge.wire.messages import decode_message, decode_tool, encode_message, encode_tool
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.refusal import refuses
from rlforge.wire.rollouts import decode_task, encode_task
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
    return pb.Action(
        step=0,
        start=pb.WorldStart(
            task=encode_task(start.task),
            seed=start.seed,
            rollout_id=start.rollout_id,
            group=start.group,
            member=start.member,
            attempt=start.attempt,
            step_timeout_s=start.step_timeout_s,
            lifetime_s=start.lifetime_s,
        ),
    )


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
    return pb.Action(step=step, message=encode_message(reply))


@refuses("an observation")
def encode_observation(step: int, observation: Observation) -> pb.Observation:
    """What the world shows after a step."""
    sent = pb.Observation(
        step=step,
        messages=[encode_message(message) for message in observation.messages],
        reward=observation.reward,
        components=observation.components,
        terminated=observation.terminated,
        truncated=observation.truncated,
        tools=[encode_tool(tool) for tool in observation.tools],
    )
    put_struct(observation.info, sent.info)
    return sent


def decode_observation(observation: pb.Observation) -> Observation:
    """The observation that was sent. Raises DataError for a reward or component that is not finite."""
    _refuse_odd_numbers(observation)
    return Observation(
        messages=tuple(decode_message(message) for message in observation.messages),
        reward=observation.reward if observation.HasField("reward") else None,
        components=dict(observation.components),
        terminated=observation.terminated,
        truncated=observation.truncated,
        info=get_struct(observation.info),
        tools=tuple(decode_tool(tool) for tool in observation.tools),
    )


def _refuse_odd_numbers(observation: pb.Observation) -> None:
    if not math.isfinite(observation.reward):
        raise DataError(f"the reward of step {observation.step} is {observation.reward}; it must be finite or absent")
    for name, part in observation.components.items():
        if not math.isfinite(part):
            raise DataError(f"component '{name}' of step {observation.step} is {part}; it must be finite or absent")
