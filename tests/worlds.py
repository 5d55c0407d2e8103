"""An environment that does as it is told, for tests of whatever stands between it and a rollout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from rlforge.types import EnvironmentSpec, Message, Observation, Task, WorldStart

Fault = TypeVar("Fault", bound=Exception)


class Clockwork:
    """Echoes replies with their number; `end`, `cut`, `boom`, `cancelled`, `sleep 5`, `nan` and `big 1000` are done."""

    def __init__(self) -> None:
        self.living: set[ClockworkWorld] = set()
        self.opened = 0
        self.steps = 0

    async def describe(self) -> EnvironmentSpec:
        return EnvironmentSpec(name="clockwork", version="1", splits={"train": 5}, deterministic=True)

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        for number in range(5)[offset : offset + limit if limit else None]:
            yield Task(id=f"{split}/{number}", messages=(Message.of("user", f"task {number}"),), answer=number)

    async def open(self, start: WorldStart) -> tuple[ClockworkWorld, Observation]:
        self.opened += 1
        if start.task.info.get("slow"):
            await asyncio.sleep(start.task.info["slow"])
        world = ClockworkWorld(self)
        self.living.add(world)
        shown = Message.of("user", f"{start.task.id} {start.seed} {start.member}")
        return world, Observation(messages=(shown,), info=start.task.info)

    async def close(self) -> None:
        self.living.clear()


class ClockworkWorld:
    def __init__(self, clockwork: Clockwork) -> None:
        self._clockwork = clockwork
        self._steps = 0

    async def step(self, reply: Message) -> Observation:
        self._clockwork.steps += 1
        self._steps += 1
        word, _, argument = reply.text.partition(" ")
        if word == "boom":
            raise ValueError("a gear has broken")
        if word == "cancelled":
            (turning := asyncio.ensure_future(asyncio.sleep(1))).cancel()
            await turning
        if word == "sleep":
            await asyncio.sleep(float(argument))
        said = "x" * int(argument) if word == "big" else f"{self._steps}: {reply.text}"
        return Observation(
            messages=(Message.of("user", said),),
            reward=float("nan") if word == "nan" else float(self._steps),
            components={"steps": float(self._steps)},
            terminated=word == "end",
            truncated=word == "cut",
            info={"calls": [call.name for call in reply.tool_calls]},
        )

    async def close(self) -> None:
        self._clockwork.living.discard(self)


def start(task: str = "train/0", seed: int = 7, *, member: int = 0, **settings: float) -> WorldStart:
    """The start of a world."""
    info = {"slow": settings.pop("slow")} if "slow" in settings else {}
    question = Task(id=task, messages=(Message.of("user", "go"),), info=info)
    return WorldStart(task=question, seed=seed, rollout_id=f"{task}@0#{member}", member=member, **settings)


def say(text: str) -> Message:
    """A reply of the model."""
    return Message.of("assistant", text)


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something holds. Raises TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_raises(fault: type[Fault], ask: Callable[[], Awaitable[Any]], within_s: float = 5.0) -> Fault:
    """Ask until that is refused; how. Raises TimeoutError when it is not in time."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await ask()
            except fault as refused:
                return refused
            await asyncio.sleep(0.01)
