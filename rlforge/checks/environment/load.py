"""How many worlds and steps a second an environment bears, reached as training reaches it."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from rlforge.checks.environment.case import TURNS, EnvironmentCase
from rlforge.checks.load import Load, alone_and_together
from rlforge.checks.properties import Property
from rlforge.interfaces import Environment
from rlforge.together import all_or_none
from rlforge.transports.connect import connect_environment
from rlforge.wire.messages import decode_message
from rlforge.wire.worlds import decode_start


class _Player:
    """Plays whole worlds one after another until time is up, one at least."""

    def __init__(self, case: EnvironmentCase, environment: Environment, until: float) -> None:
        self._case = case
        self._environment = environment
        self._until = until
        self.worlds = 0
        self.step_s: list[float] = []

    async def play(self, number: int) -> None:
        """Worlds of the so-manieth task and every `worlds`-th after it."""
        while not self.worlds or time.perf_counter() < self._until:
            start = self._case.start(number, seed=number)
            world, observation = await self._environment.open(decode_start(start.start))
            self.worlds += 1
            try:
                for step in range(1, TURNS + 1):
                    action = None if observation.over else self._case.action(start, step)
                    if action is None:
                        break
                    began = time.perf_counter()
                    observation = await world.step(decode_message(action.message))
                    self.step_s.append(time.perf_counter() - began)
            finally:
                await world.close()
            number += self._case.together


async def bears_the_load(case: EnvironmentCase) -> str:
    """Worlds opened, played and closed one after another, many at once, without a fault."""
    return await alone_and_together(partial(_measured, case), case.loads, at_once=case.together, seconds=case.seconds)


async def _measured(case: EnvironmentCase, worlds: int, seconds: float) -> Load:
    environment = connect_environment(case.config)
    began = time.perf_counter()
    player = _Player(case, environment, began + seconds)
    try:
        playing = [asyncio.create_task(player.play(number)) for number in range(worlds)]
        await all_or_none(playing)
    finally:
        await environment.close()
    counts = {"worlds": player.worlds, "steps": len(player.step_s)}
    return Load(at_once=worlds, seconds=time.perf_counter() - began, counts=counts, step_s=tuple(player.step_s))


PROPERTIES = (
    Property(
        "bears the load",
        bears_the_load,
        why="training plays hundreds of worlds at once; a fault that only shows then costs rollouts",
        remedy="look for what worlds share (files, ports, a lock, a GPU), or serve fewer worlds",
        limit_s=600.0,
    ),
)
"""In the order in which they are examined."""
