"""Worlds that rollouts are played in: as a user would write them."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from rlforge.errors import EndpointCancelled
from rlforge.types import Message, Task

OPEN: set[int] = set()
"""Worlds that were started and not yet closed."""
SEEDS: dict[str, list[int]] = {}
"""Seeds of the worlds of each task."""


class Once:
    """Over after the first reply."""

    def reset(self, task, seed):
        return None

    def step(self, action):
        return None, 1.0, True, False, {}


class Guess:
    """Find the number: told higher or lower until it is found."""

    deterministic = True

    @staticmethod
    def tasks(split):
        if split not in ("train", "test"):
            raise KeyError(split)
        return [Task(id=f"{split}-{n}", messages=(Message.of("system", "guess"),), answer=n) for n in range(6)]

    def reset(self, task, seed):
        self.answer = int(task.answer)
        OPEN.add(id(self))
        SEEDS.setdefault(task.id, []).append(seed)
        return "which?"

    def step(self, action):
        said = "".join(letter for letter in action if letter in "0123456789")
        if said and int(said) == self.answer:
            return None, {"reward": 1.0, "found": 1.0}, True, False, {"said": said}
        return "higher" if not said or int(said) < self.answer else "lower", -0.25, False, False, {}

    def close(self):
        OPEN.discard(id(self))


class Silent(Guess):
    """Gives no reward."""

    def step(self, action):
        return "go on", None, False, False, {}


class Limited(Guess):
    """Has a limit of its own."""

    def step(self, action):
        return "go on", 0.0, False, True, {}


class Slow(Guess):
    """Answers at once where the answer is even, and else when it is let."""

    let: asyncio.Event

    async def step(self, action):
        if self.answer % 2:
            await self.let.wait()
        return None, 1.0, True, False, {}


class Stuck(Guess):
    """Never answers."""

    def step(self, action):
        time.sleep(1)
        raise AssertionError


class Breaks(Guess):
    """Breaks at the second step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 2:
            raise RuntimeError("a wheel came off")
        return "go on", 0.5, False, False, {}


class Withdrawn(Guess):
    """Given up by whoever has it."""

    def step(self, action):
        raise EndpointCancelled("somebody pulled the plug")


class Unreadable(Guess):
    """Shows what no tokenizer here can encode."""

    def step(self, action):
        return Message.of("user", "☃"), 0.0, False, False, {}


class Lights:
    """Two tools and a light."""

    on = False
    calls: ClassVar[list[str]] = []

    def turn(self, to: str) -> str:
        """Turn the light on or off.

        Args:
            to: `on` or `off`.
        """
        self.calls.append(to)
        self.on = to == "on"
        return "done"

    def look(self) -> str:
        """See whether the light is on."""
        return "on" if self.on else "off"

    def reward(self):
        return float(self.on)
