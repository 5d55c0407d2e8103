"""The environment under examination: its lines, its tasks, and how a world of it is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from itertools import pairwise

from rlforge.checks.environment.actions import Replies
from rlforge.checks.fault import Fault
from rlforge.checks.line import EnvironmentLine, WorldLine
from rlforge.checks.load import Load
from rlforge.checks.place import Place
from rlforge.checks.properties import Failed, Skipped
from rlforge.deadlines import deadline
from rlforge.transports.config import EndpointConfig
from rlforge.values import value
from rlforge.wire.pb import environment_pb2, types_pb2

TURNS = 6
"""Turns that a world is played, where nothing asks for more."""
_PAUSE_S = 0.05


@value(eq=False)
class EnvironmentCase:
    """What every property of an environment is examined with."""

    config: EndpointConfig
    place: Place
    dial: Callable[[Place], EnvironmentLine]
    """A new connection."""
    line: EnvironmentLine
    """The connection that most properties share."""
    spec: environment_pb2.EnvironmentSpec
    tasks: Sequence[types_pb2.Task]
    """At least one; made up where the environment has none."""
    replies: Replies
    worlds: int
    """Worlds that are played side by side."""
    seconds: float
    """How long the load lasts."""
    loads: list[Load] = field(default_factory=lambda: list[Load]())
    """What was measured under load: one world alone, then many."""

    @property
    def patience_s(self) -> float:
        """Seconds to wait for any one answer."""
        return self.place.patience_s

    @property
    def together(self) -> int:
        """Worlds to play side by side: no more than there are."""
        return min(self.worlds, self.spec.max_worlds or self.worlds)

    def start(
        self, number: int = 0, seed: int = 7, lifetime_s: float = 0, step_timeout_s: float = 0
    ) -> environment_pb2.Action:
        """Step 0 of a world of the so-manieth task."""
        task = self.tasks[number % len(self.tasks)]
        start = environment_pb2.WorldStart(
            task=task,
            seed=seed,
            rollout_id=f"check/{number}",
            group=f"check/{number}",
            lifetime_s=lifetime_s,
            step_timeout_s=step_timeout_s,
        )
        return environment_pb2.Action(step=0, start=start)

    def action(self, start: environment_pb2.Action, step: int) -> environment_pb2.Action | None:
        """The action of a later step; None when there is nothing more to say."""
        reply = self.replies.at(start.start.task, step - 1)
        return None if reply is None else environment_pb2.Action(step=step, message=reply)

    @asynccontextmanager
    async def world(
        self, start: environment_pb2.Action, line: EnvironmentLine | None = None
    ) -> AsyncGenerator[tuple[WorldLine, environment_pb2.Observation]]:
        """A world that has started, and what it first showed; waits for room; left as a client leaves it."""
        world, first = await self.open(start, line)
        try:
            yield world, first
        finally:
            await world.leave()

    async def open(
        self, start: environment_pb2.Action, line: EnvironmentLine | None = None
    ) -> tuple[WorldLine, environment_pb2.Observation]:
        """A world that has started, which the caller frees; waits for room that an earlier world still holds."""
        async with deadline(self.patience_s, "a free world"):
            while True:
                world = (line or self.line).world()
                try:
                    return world, await world.ask(start, "the first observation")
                except Fault as fault:
                    await world.free()
                    if fault.code != "RESOURCE_EXHAUSTED":
                        raise
                    await asyncio.sleep(_PAUSE_S)
                except BaseException:
                    await world.free()
                    raise

    async def play(self, start: environment_pb2.Action, turns: int = TURNS) -> list[environment_pb2.Observation]:
        """What a world shows in its first turns, alone."""
        async with self.world(start) as (world, first):
            seen = [first]
            while len(seen) <= turns and not over(seen[-1]):
                action = self.action(start, len(seen))
                if action is None:
                    break
                seen.append(await world.ask(action, f"the answer to step {len(seen)}"))
            return seen


def over(observation: environment_pb2.Observation) -> bool:
    """Whether there is no next step."""
    return observation.terminated or observation.truncated


def shown(observation: environment_pb2.Observation) -> bytes:
    """What must be alike in worlds that are alike: all but the number of the step, and `info`, which may tell times."""
    copy = environment_pb2.Observation()
    copy.CopyFrom(observation)
    copy.ClearField("step")
    copy.ClearField("info")
    return copy.SerializeToString(deterministic=True)


def brief(observation: environment_pb2.Observation) -> str:
    """An observation in a line, for a person."""
    text = " ".join(part.text for message in observation.messages for part in message.content).split()
    reward = f", reward {observation.reward:g}" if observation.HasField("reward") else ""
    return f"'{' '.join(text)[:60]}'{reward}{', over' if over(observation) else ''}"


def same(one: Sequence[environment_pb2.Observation], other: Sequence[environment_pb2.Observation], what: str) -> None:
    """Raises Failed that names the first step in which two plays differ."""
    for step, (left, right) in enumerate(zip(one, other, strict=False)):
        if shown(left) != shown(right):
            raise Failed(f"{what}: step {step} showed {brief(left)}, and then {brief(right)}")
    if len(one) != len(other):
        raise Failed(f"{what}: one world took {len(one) - 1} steps, the other {len(other) - 1}")


def must_move(plays: Sequence[Sequence[environment_pb2.Observation]], replies: Replies) -> None:
    """Raises Skipped when no step shows anything new, so that two steps cannot be told from one."""
    if not any(shown(before) != shown(after) for seen in plays for before, after in pairwise(seen)):
        raise Skipped(f"no reply moves a world visibly (replies: {replies.source}); give some with --actions")
