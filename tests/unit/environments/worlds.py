"""Small worlds of every shape, and how the tests open them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from rlforge.types import EnvironmentSpec, JsonPart, Message, Observation, Task, ToolCall, WorldStart

TASK = Task(id="t/1", messages=(Message.of("user", "go"),), info={"goal": 3})


class Counter:
    """Gymnasium's shape, as short as it gets."""

    deterministic = True

    def reset(self, task, seed):
        self.at, self.goal = seed % 10, task.info["goal"]
        return f"at {self.at}"

    def step(self, action):
        self.at += {"up": 1, "down": -1}[action]
        return f"at {self.at}", 0.5, self.at == self.goal, False, {"at": self.at}


class AsyncCounter:
    def __init__(self):
        self.closed = False

    async def reset(self, seed):
        self.at = seed
        return {"at": seed}

    async def step(self, action):
        await asyncio.sleep(0)
        self.at += 1
        return {"at": self.at}, None, False, self.at > 3, {}

    async def close(self):
        self.closed = True


class Slow:
    """Its steps block until they are let go."""

    gate = threading.Event()
    begun = threading.Event()
    closed: ClassVar[list[str]] = []

    def reset(self, task):
        self.id = task.id
        return ""

    def step(self, action):
        if action == "wait":
            Slow.begun.set()
            Slow.gate.wait(20)
        if action == "sleep":
            time.sleep(0.2)
        return action, 1, False, False, {}

    def close(self):
        Slow.closed.append(self.id)


class Shop:
    """Tools."""

    name = "shop"

    def reset(self, task, seed):
        self.basket: list[str] = []
        return "Buy bread."

    def add(self, item: str, count: int = 1) -> str:
        """Put something into the basket."""
        self.basket += [item] * count
        return f"{len(self.basket)} in the basket"

    async def look(self) -> dict[str, Any]:
        """See the basket."""
        return {"basket": self.basket}

    def unlisted(self):
        return 1

    def reward(self):
        return {"bread": 1.0 * ("bread" in self.basket), "clutter": -0.1 * (len(self.basket) > 3)}

    @property
    def done(self):
        return len(self.basket) > 5


class Own:
    """An environment already."""

    async def describe(self) -> EnvironmentSpec:
        return EnvironmentSpec(name="own")

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        yield TASK

    async def open(self, start: WorldStart):
        return self, Observation(messages=start.task.messages)

    async def step(self, reply: Message) -> Observation:
        return Observation(messages=(reply,))

    async def close(self) -> None:
        return


class Crashing:
    """Ends its process when told to, or hangs it."""

    def reset(self, task, seed):
        self.at = seed
        return f"at {seed}"

    def step(self, action):
        import ctypes
        import os
        import signal

        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "sleep":
            time.sleep(2)
        if action == "hang":  # holds the interpreter's lock: nothing else in the process moves
            ctypes.PyDLL(None).sleep(60)
        if action == "spawn":
            import subprocess

            self.child = subprocess.Popen(["sleep", "300"], start_new_session=True)
            return self.child.pid, 0, False, False, {}
        if action == "pid":
            return os.getpid(), 0, False, False, {}
        self.at += 1
        return f"at {self.at}", 0, False, False, {}


class Docless:
    def move(self): ...


def start(seed: int = 1, task: Task = TASK, **more: Any) -> WorldStart:
    return WorldStart(task=task, seed=seed, **more)


def say(text: str) -> Message:
    return Message.of("assistant", text)


def call(name: str, arguments: str = "{}", id: str = "c1") -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id=id, name=name, arguments=arguments),))


def text(observation: Observation) -> str:
    return "".join(message.text for message in observation.messages)


def value(observation: Observation) -> Any:
    (message,) = observation.messages
    (part,) = message.content
    assert isinstance(part, JsonPart)
    return part.value
