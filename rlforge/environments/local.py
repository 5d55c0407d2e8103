"""An environment in this process: many worlds of the user's code, none of which holds up the others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from rlforge.deadlines import deadline
from rlforge.environments.calls import Caller
from rlforge.environments.shapes import Kind, Simulation
from rlforge.errors import DeadlineExceeded, EndpointBroken, EndpointRefused, EndpointUnavailable
from rlforge.threads import Threads
from rlforge.types import EnvironmentSpec, Message, Observation, Task, WorldStart

_CLOSE_S = 10.0
"""Seconds that somebody waits for the user's `close`."""
_ABANDONED_S = 600.0
"""Seconds after which a step that nobody waits for is given up: its world is not closed, and its place is free."""
_STILL_RUNS = "%s: a step that nobody waits for runs on after %g s; its place is free when it ends, or after %g s"

_log = logging.getLogger("rlforge.environments")


class LocalEnvironment:
    """Implements `Environment` and `CountsWorlds`."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._threads = Threads(f"world-{kind.name}")
        self._worlds: set[LocalWorld] = set()
        self._clearing: dict[asyncio.Task[None], WorldStart] = {}
        self._spec: EnvironmentSpec | None = None
        self._describing = asyncio.Lock()
        self._closed = False

    async def describe(self) -> EnvironmentSpec:
        """What kind it is."""
        if self._spec is None:
            async with self._describing:  # a thousand worlds that open at once list the tasks once
                self._spec = self._spec or await self._kind.describe(self._caller("describing it"))
        return self._spec

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split; `limit` 0 means all."""
        listed = await self._kind.tasks(split, self._caller(f"listing the tasks of '{split}'"))
        for task in listed[offset : offset + limit if limit else None]:
            yield task

    async def open(self, start: WorldStart) -> tuple[LocalWorld, Observation]:
        """A new world and what it first shows."""
        if self._closed:
            raise EndpointUnavailable(f"environment '{self._kind.name}' is closed")
        spec = await self.describe()
        world = LocalWorld(start, spec, self._caller(_what(start)), self._forget)
        self._worlds.add(world)
        return world, await world.begin(self._kind)

    @property
    def occupied(self) -> int:
        """Worlds that live, and those given up in which the user's code still runs."""
        return len(self._worlds) + len(self._clearing)

    async def gone(self, start: WorldStart) -> None:
        """Wait until a world that was given up is closed; it is known by the very start it was opened with."""
        if clearing := [task for task, each in self._clearing.items() if each is start]:
            await asyncio.wait(clearing)

    async def close(self) -> None:
        """Free every world. May be called twice."""
        self._closed = True
        for world in list(self._worlds):
            world.leave()
        if self._clearing:
            _, late = await asyncio.wait(self._clearing, timeout=_CLOSE_S)
            for task in late:
                task.cancel()

    def _caller(self, doing: str) -> Caller:
        return Caller(self._threads, f"environment '{self._kind.name}' on {doing}")

    def _forget(self, world: LocalWorld) -> asyncio.Task[None]:
        self._worlds.discard(world)
        clearing = asyncio.get_running_loop().create_task(world.clear())
        self._clearing[clearing] = world.start
        clearing.add_done_callback(self._clearing.pop)
        return clearing


class LocalWorld:
    """Implements `World`: one step at a time, and none after a failure."""

    def __init__(
        self,
        start: WorldStart,
        spec: EnvironmentSpec,
        call: Caller,
        forget: Callable[[LocalWorld], asyncio.Task[None]],
    ) -> None:
        self.start = start
        self._call = call
        self._forget = forget
        self._what = f"{spec.name}, {_what(start)}"
        self._step_timeout_s = start.step_timeout_s or spec.step_timeout_s
        self._ends = time.monotonic() + start.lifetime_s if start.lifetime_s else None
        self._work: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
        self._simulation: Simulation | None = None
        self._clearing: asyncio.Task[None] | None = None
        self._over = False

    async def begin(self, kind: Kind) -> Observation:
        """Make the world and show it."""

        async def reset() -> Observation:
            self._simulation = await kind.make(self._call)
            return await self._simulation.reset(self.start.task, self.start.seed)

        return await self._in_time(reset(), "reset")

    async def step(self, reply: Message) -> Observation:
        """What the world shows after the model's reply."""
        if self._clearing is not None or self._simulation is None:
            raise EndpointRefused(f"{self._what}: the world is closed; open another")
        if self._over or not self._work.done():
            raise EndpointRefused(f"{self._what}: {'the world is over' if self._over else 'a step is under way'}")
        return await self._in_time(self._simulation.step(reply), "step")

    async def close(self) -> None:
        """Free the world at once. Waits for the user's `close`, but not for a step under way in a thread."""
        clearing = self.leave()
        if not self._call.busy:
            await asyncio.wait({clearing}, timeout=_CLOSE_S)

    def leave(self) -> asyncio.Task[None]:
        """Give the world up; its user's code is closed as soon as it stands still."""
        if self._clearing is None:
            self._work.cancel()
            self._clearing = self._forget(self)
        return self._clearing

    async def clear(self) -> None:
        """Close the user's object once nothing runs in it."""
        try:
            await self._stand_still()
            if self._simulation is not None:
                async with deadline(_CLOSE_S, f"{self._what}: its close()"):
                    await self._simulation.close()
        except (EndpointBroken, DeadlineExceeded) as error:
            _log.warning("%s", error)

    async def _stand_still(self) -> None:
        """Wait for a step that was given up: its world keeps its place as long, and says so when that is long."""
        if self._work.done() and not self._call.busy:
            return
        still = asyncio.ensure_future(self._still())
        try:
            await asyncio.wait({still}, timeout=_CLOSE_S)
            if not still.done():
                _log.warning(_STILL_RUNS, self._what, _CLOSE_S, _ABANDONED_S)
            async with deadline(_ABANDONED_S, f"{self._what}: a step that was given up"):
                await still
        finally:
            still.cancel()

    async def _still(self) -> None:
        await asyncio.gather(self._work, return_exceptions=True)
        await self._call.idle()

    async def _in_time(self, work: Coroutine[Any, Any, Observation], what: str) -> Observation:
        """The observation, within the limits this world was opened with; the world is gone when there is none."""
        self._work = asyncio.get_running_loop().create_task(work)
        limit_s = self._limit_s()
        try:
            await asyncio.wait({self._work}, timeout=limit_s)
            if not self._work.done():
                raise DeadlineExceeded(f"environment {self._what}: waited {limit_s:g} s for its {what}; giving up")
            if self._work.cancelled():
                raise EndpointRefused(f"{self._what}: the world was closed during its {what}")
            observation = self._work.result()
        except BaseException:
            self.leave()
            raise
        self._over = observation.over
        return observation

    def _limit_s(self) -> float | None:
        limits = [self._step_timeout_s] if self._step_timeout_s else []
        if self._ends is not None:
            limits.append(max(self._ends - time.monotonic(), 0.0))
        return min(limits, default=None)


def _what(start: WorldStart) -> str:
    return f"task '{start.task.id}', seed {start.seed}"
