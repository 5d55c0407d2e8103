"""Environment servers in plain grpc.aio: one that is right, and one for each way to be wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.pb import types_pb2
from rlforge.wire.pb.environment_pb2_grpc import EnvironmentServicer
from tests.checks.broken.stray import unmoved

Code = grpc.StatusCode
TURNS = 3
MOST_BYTES = 100_000


class World:
    """Adds numbers to one that comes from the seed; the right ones earn the reward."""

    def __init__(self, start: pb.WorldStart) -> None:
        self.right = [int(action) for action in start.task.info["actions"]]
        self.said: list[int] = []
        self.total = random.Random(start.seed).randrange(100)

    def step(self, text: str) -> pb.Observation:
        self.said.append(int(text) if text.isdigit() else 0)
        self.total += self.said[-1]
        return self.shown()

    def shown(self) -> pb.Observation:
        observation = pb.Observation(terminated=len(self.said) == TURNS)
        observation.messages.add(role="user").content.add(text=f"{self.total} after {len(self.said)}")
        if observation.terminated:
            observation.reward = self.reward()
        return observation

    def reward(self) -> float:
        return float(self.said == self.right)


class Right(EnvironmentServicer):
    """Breaks nothing. Each way to be wrong overrides one of its methods."""

    token = ""
    worlds = 4

    def __init__(self) -> None:
        self.living = 0
        self.health = "SERVING"
        self.most_received = 2 * MOST_BYTES

    # --- the calls

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.EnvironmentSpec:  # noqa: N802
        await self.let_in(context)
        return self.spec()

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> AsyncIterator[types_pb2.Task]:  # noqa: N802
        await self.let_in(context)
        for task in self.tasks()[request.offset : request.offset + request.limit if request.limit else None]:
            yield task

    async def Interact(self, requests: AsyncIterator[pb.Action], context: Any) -> None:  # noqa: N802
        await self.let_in_world(context)
        if self.living >= self.places():
            await context.abort(Code.RESOURCE_EXHAUSTED, "all worlds are taken", (("retry-after-ms", "50"),))
        self.living += 1
        try:
            async with asyncio.timeout(None) as life:
                over = await self.play(context, life)
        except TimeoutError:
            self.living -= 1
            await context.abort(Code.DEADLINE_EXCEEDED, "it has taken too long")
        except BaseException:
            self.gone()
            raise
        if over:
            self.living -= 1
        else:
            self.gone()

    # --- what they are made of

    def spec(self) -> pb.EnvironmentSpec:
        return pb.EnvironmentSpec(
            name="adding",
            version="1",
            protocol_version=1,
            splits=[pb.Split(name="train", tasks=20)],
            max_worlds=self.worlds,
            max_action_bytes=MOST_BYTES,
            deterministic=True,
        )

    def tasks(self) -> list[types_pb2.Task]:
        tasks = [types_pb2.Task(id=f"add/{number}") for number in range(20)]
        for number, task in enumerate(tasks):
            task.info["actions"] = [str(number + 1), str(number + 2), str(number + 3)]
        return tasks

    def places(self) -> int:
        return self.worlds

    def gone(self) -> None:
        self.living -= 1

    def world(self, start: pb.WorldStart) -> World:
        return World(start)

    async def let_in(self, context: Any) -> None:
        given = dict(context.invocation_metadata() or ()).get("authorization")
        if self.token and given != f"Bearer {self.token}":
            await context.abort(Code.UNAUTHENTICATED, "the token is missing or wrong")

    async def let_in_world(self, context: Any) -> None:
        await self.let_in(context)

    async def play(self, context: Any, life: asyncio.Timeout) -> bool:
        """One world from its start; whether it came to its end."""
        first = await context.read()
        if unmoved(first):
            return False
        await self.check(context, first, 0)
        if self.lifetime_s(first):
            life.reschedule(asyncio.get_running_loop().time() + self.lifetime_s(first))
        world, last = self.world(first.start), pb.Observation()
        last = world.shown()
        await self.show(context, last)
        while not last.terminated:
            action = await context.read()
            if unmoved(action):
                return False
            last = await self.act(context, world, action, last, first)
            await self.show(context, last)
        await self.part(context)
        return True

    async def act(self, context: Any, world: World, action: pb.Action, last: pb.Observation, first: pb.Action) -> Any:
        if action.step == last.step and action.ByteSize() <= MOST_BYTES:
            return self.again(world, action, last)
        await self.check(context, action, last.step + 1)
        await self.work(first.start.step_timeout_s)
        observation = world.step("".join(part.text for part in action.message.content))
        observation.step = self.number(action)
        return observation

    async def check(self, context: Any, action: pb.Action, step: int) -> None:
        if action.ByteSize() > self.most_bytes():
            await context.abort(Code.RESOURCE_EXHAUSTED, f"more than {MOST_BYTES} bytes")
        if self.makes_no_sense(action, step):
            await self.refuse(context)
        if not self.fits(action, step):
            await context.abort(Code.FAILED_PRECONDITION, f"step {action.step} came where {step} was due")

    def makes_no_sense(self, action: pb.Action, step: int) -> bool:
        roles = {message.role for message in action.start.task.messages}
        wanted = "start" if step == 0 else "message"
        return action.WhichOneof("body") != wanted or bool(roles - {"system", "user", "assistant", "tool"})

    async def refuse(self, context: Any) -> None:
        await context.abort(Code.INVALID_ARGUMENT, "this makes no sense")

    def fits(self, action: pb.Action, step: int) -> bool:
        return action.step == step

    def most_bytes(self) -> int:
        return MOST_BYTES

    def number(self, action: pb.Action) -> int:
        return action.step

    def lifetime_s(self, first: pb.Action) -> float:
        return first.start.lifetime_s

    def again(self, world: World, action: pb.Action, last: pb.Observation) -> pb.Observation:
        return last

    async def work(self, limit_s: float) -> None:
        """How long a step takes."""

    async def show(self, context: Any, observation: pb.Observation) -> None:
        await context.write(observation)

    async def part(self, context: Any) -> None:
        """After the last observation."""


class SpeaksAnotherProtocol(Right):
    def spec(self) -> pb.EnvironmentSpec:
        spec = super().spec()
        spec.protocol_version = 7
        return spec


class ShufflesTasks(Right):
    def tasks(self) -> list[types_pb2.Task]:
        return random.sample(super().tasks(), 20)


class NumbersWrong(Right):
    def number(self, action: pb.Action) -> int:
        return 1


class AnswersTwice(Right):
    async def show(self, context: Any, observation: pb.Observation) -> None:
        await context.write(observation)
        await context.write(observation)


class RewardsWithNaN(Right):
    def world(self, start: pb.WorldStart) -> World:
        world = super().world(start)
        world.reward = lambda: float("nan")  # type: ignore[method-assign]
        return world


class Lingers(Right):
    async def part(self, context: Any) -> None:
        await asyncio.sleep(3600)


class TakesAnyStep(Right):
    def fits(self, action: pb.Action, step: int) -> bool:
        return True


class SaysNotServing(Right):
    def __init__(self) -> None:
        super().__init__()
        self.health = "NOT_SERVING"


class HasChanceOfItsOwn(Right):
    def world(self, start: pb.WorldStart) -> World:
        world = super().world(start)
        world.total = random.randrange(10**9)
        return world


class SharesItsState(Right):
    def __init__(self) -> None:
        super().__init__()
        self.shared: World | None = None

    def world(self, start: pb.WorldStart) -> World:
        world = super().world(start)
        if self.living == 1 or self.shared is None:
            self.shared = world
        world.step = self.step_of(world)  # type: ignore[method-assign]
        return world

    def step_of(self, world: World) -> Any:
        def step(text: str) -> pb.Observation:
            assert self.shared is not None
            World.step(world, text)
            if self.shared is not world:
                self.shared.total += world.said[-1]
            return world.shown()

        return step


class StepsAgain(Right):
    def again(self, world: World, action: pb.Action, last: pb.Observation) -> pb.Observation:
        if action.step == 0:
            return last
        observation = world.step("".join(part.text for part in action.message.content))
        observation.step = action.step
        return observation


class ForgetsItsLastAnswer(Right):
    async def act(self, context: Any, world: World, action: pb.Action, last: pb.Observation, first: pb.Action) -> Any:
        if action.step == last.step:
            await context.abort(Code.FAILED_PRECONDITION, "this step was answered")
        return await super().act(context, world, action, last, first)


class RewardsNothing(Right):
    def world(self, start: pb.WorldStart) -> World:
        world = super().world(start)
        world.right = [0, 0, 0]
        return world


class TakesNonsense(Right):
    def makes_no_sense(self, action: pb.Action, step: int) -> bool:
        return False


class FallsOverNonsense(Right):
    """Refuses, and is no good any more."""

    def __init__(self) -> None:
        super().__init__()
        self.fallen = False

    async def let_in_world(self, context: Any) -> None:
        if self.fallen:
            await context.abort(Code.INTERNAL, "the server has fallen over")

    async def refuse(self, context: Any) -> None:
        self.fallen = True
        await super().refuse(context)


class CallsNonsenseABug(Right):
    async def refuse(self, context: Any) -> None:
        raise KeyError("no such field")


class SwallowsAnySize(Right):
    def __init__(self) -> None:
        super().__init__()
        self.most_received = -1

    def most_bytes(self) -> int:
        return 2**31


class LeavesTheStreamOpen(Right):
    """Asks for the token in Describe, and forgets the stream."""

    async def let_in_world(self, context: Any) -> None:
        return


class BearsOneClient(Right):
    """A second connection breaks its worlds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ""

    async def let_in_world(self, context: Any) -> None:
        self.first = self.first or context.peer()
        if context.peer() != self.first:
            await context.abort(Code.ABORTED, "the file is locked")


class LivesForEver(Right):
    def lifetime_s(self, first: pb.Action) -> float:
        return 0.0


class TakesItsTime(Right):
    async def work(self, limit_s: float) -> None:
        await asyncio.sleep(0.15)


class OpensTooMany(Right):
    def places(self) -> int:
        return 10**6


class BreaksWhenFull(Right):
    async def let_in_world(self, context: Any) -> None:
        await super().let_in_world(context)
        if self.living >= self.worlds:
            await context.abort(Code.ABORTED, "out of memory")


class ClingsToItsWorlds(Right):
    """Frees only worlds that came to their end."""

    def gone(self) -> None:
        return


class FailsToDescribe(Right):
    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.EnvironmentSpec:  # noqa: N802
        raise KeyError("name")


BROKEN: dict[type[Right], str] = {
    FailsToDescribe: "describes itself",
    SpeaksAnotherProtocol: "describes itself",
    ShufflesTasks: "lists its tasks in one order",
    NumbersWrong: "one observation for each action",
    AnswersTwice: "one observation for each action",
    RewardsWithNaN: "shows what can be trained on",
    Lingers: "ends the stream when the world is over",
    TakesAnyStep: "refuses steps out of order",
    SaysNotServing: "tells its health",
    HasChanceOfItsOwn: "same seed, same world",
    SharesItsState: "worlds do not leak into one another",
    StepsAgain: "a resent step is answered from memory",
    ForgetsItsLastAnswer: "a resent step is answered from memory",
    RewardsNothing: "the reference answer earns the reward",
    TakesNonsense: "refuses malformed input",
    FallsOverNonsense: "refuses malformed input",
    CallsNonsenseABug: "refuses malformed input",
    SwallowsAnySize: "refuses oversized input",
    LeavesTheStreamOpen: "demands its token",
    BearsOneClient: "bears the load",
    LivesForEver: "a world lives no longer than it may",
    TakesItsTime: "a step takes no longer than it may",
    OpensTooMany: "no more worlds than it says",
    BreaksWhenFull: "no more worlds than it says",
    ClingsToItsWorlds: "a cancelled world is freed",
}
"""Every way to be wrong, and the property it lacks."""
