"""The worlds a server holds: slots, numbered steps, deadlines; the same behind gRPC and HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from rlforge.deadlines import deadline
from rlforge.errors import (
    DataError,
    EndpointBroken,
    EndpointBusy,
    EndpointUnavailable,
    RlforgeError,
    boundary,
)
from rlforge.hosting.faults import OutOfOrder, UnknownSplit, UnknownWorld, fault_of
from rlforge.hosting.log import EventLog
from rlforge.interfaces import CountsWorlds, Environment, World
from rlforge.types import EnvironmentSpec, Observation, Task, WorldStart
from rlforge.values import value
from rlforge.wire.messages import decode_message
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.worlds import decode_start, encode_observation

CLOSE_TIMEOUT_S = 10.0
"""Seconds a world may take to close before it is given up."""
_OWN_ENDS = ("terminated", "truncated")
ADVICE_S = (0.1, 5.0)
"""Least and most seconds a client is told to wait for a free world."""


@value()
class WorldLimits:
    """What a server grants its worlds."""

    worlds: int = 0
    """Worlds that may live at once; 0: no limit."""
    step_timeout_s: float = 60.0
    """Seconds a step may take where neither the rollout nor the environment says."""
    lifetime_s: float = 0.0
    """Seconds a world may live where the rollout says nothing or more; 0: no limit."""
    idle_s: float = 600.0
    """Seconds a world over HTTP may wait for its next step. Over gRPC the stream says whether anyone is there."""


class Worlds:
    """All worlds of one environment on a server."""

    def __init__(self, environment: Environment, spec: EnvironmentSpec, limits: WorldLimits, log: EventLog) -> None:
        self.environment = environment
        self._counting = environment if isinstance(environment, CountsWorlds) else None
        self.spec = spec
        self.limits = limits
        self.log = log
        self.living: set[HostedWorld] = set()
        self.draining = False
        self.closing: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._freed_at = time.monotonic()
        self._between_s = ADVICE_S[0]

    def admit(self) -> HostedWorld:
        """A place for a world. Raises EndpointBusy when all are taken, EndpointUnavailable while draining."""
        if self.draining:
            raise EndpointUnavailable(f"environment '{self.spec.name}' is draining; ask another server or ask again")
        if self.limits.worlds and self._occupied >= self.limits.worlds:
            least, most = ADVICE_S
            advice_s = min(max(self._between_s, least), most)
            raise EndpointBusy(f"all {self.limits.worlds} worlds of environment '{self.spec.name}' are taken", advice_s)
        world = HostedWorld(self)
        self.living.add(world)
        self._empty.clear()
        return world

    def freed(self, world: HostedWorld) -> None:
        """A place is free again."""
        self.living.discard(world)
        if not self.living:
            self._empty.set()
        now = time.monotonic()
        self._between_s += 0.2 * (now - self._freed_at - self._between_s)  # a place comes free about this often
        self._freed_at = now

    @property
    def _occupied(self) -> int:
        """Places taken, those of worlds included that were given up in the middle of a step which still runs."""
        return max(len(self.living), self._counting.occupied if self._counting else 0)

    async def tasks(self, split: str, offset: int, limit: int) -> AsyncIterator[Task]:
        """The tasks of a split. Raises UnknownSplit."""
        known = self.spec.splits
        if known and split not in known:
            raise UnknownSplit(f"environment '{self.spec.name}' has no split '{split}', only {', '.join(known)}")
        if known:
            async for task in self.environment.tasks(split, offset, limit):
                yield task

    async def drain(self, within_s: float) -> None:
        """Take no new world; those that live `within_s` seconds from now are freed."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        for world in tuple(self.living):
            world.free("drained")
        if self.closing:
            await asyncio.wait(tuple(self.closing), timeout=CLOSE_TIMEOUT_S)

    async def close(self) -> None:
        """Close the environment itself."""
        await self.environment.close()


class HostedWorld:
    """One world on a server: knows which step is next and answers the last one again from memory."""

    __slots__ = (
        "_answered",
        "_began",
        "_end",
        "_error",
        "_last",
        "_start",
        "_step_timeout_s",
        "_world",
        "_worlds",
    )

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds
        self._world: World | None = None
        self._start: WorldStart | None = None
        self._answered = -1
        self._last: pb.Observation | None = None
        self._began = time.monotonic()
        self._step_timeout_s = 0.0
        self._end = ""
        self._error = ""

    @property
    def over(self) -> bool:
        """Whether it gave its last observation or is gone."""
        return bool(self._end)

    @property
    def lifetime_s(self) -> float:
        """Seconds it may live in all; 0: no limit. Known from its start on."""
        asked, granted = self._start.lifetime_s if self._start else 0.0, self._worlds.limits.lifetime_s
        return min(filter(None, (asked, granted)), default=0.0)

    async def act(self, action: pb.Action) -> pb.Observation:
        """The answer to a step. Raises an error that `fault_of` knows; the world is gone then, but for OutOfOrder."""
        if self._last is not None and action.step == self._answered:
            return self._last
        try:
            self._expect(action)
            observation = await (self._open(action) if action.step == 0 else self._step(action))
            self._last = self._encoded(action.step, observation)
        except asyncio.CancelledError:
            self.free("cancelled")
            raise
        except BaseException as error:  # whatever it is, the world does not keep its place
            self._error = str(error)
            self.free(fault_of(error).kind)
            raise
        self._answered = action.step
        if observation.over:
            self.free(_OWN_ENDS[not observation.terminated])
        return self._last

    def free(self, end: str) -> None:
        """Close the world behind the caller's back, then give its place back; `end` says why, for the log."""
        if self._end:
            return
        self._end = end
        self._worlds.log.world_ended(
            self._start, end, max(self._answered, 0), time.monotonic() - self._began, self._error
        )
        if self._world is None:
            self._worlds.freed(self)
            return
        closing = asyncio.get_running_loop().create_task(self._close(self._world))
        self._worlds.closing.add(closing)
        closing.add_done_callback(self._worlds.closing.discard)

    def _expect(self, action: pb.Action) -> None:
        if self._end in _OWN_ENDS:
            raise OutOfOrder(f"step {action.step}: the world is over ({self._end}); {self._answered} was its last step")
        if self._end:
            raise UnknownWorld(f"step {action.step}: the world is gone ({self._end})")
        if action.step != self._answered + 1:
            again = f", or {self._answered} again" if self._answered >= 0 else ""
            raise OutOfOrder(f"step {action.step} is out of order: the next is {self._answered + 1}{again}")
        expected = "start" if action.step == 0 else "message"
        if action.WhichOneof("body") != expected:
            raise DataError(f"step {action.step} must have the field '{expected}'")

    async def _open(self, action: pb.Action) -> Observation:
        self._start = decode_start(action.start)
        spec, limits = self._worlds.spec, self._worlds.limits
        self._step_timeout_s = self._start.step_timeout_s or spec.step_timeout_s or limits.step_timeout_s
        async with deadline(self._step_timeout_s, f"environment '{spec.name}' to start a world"):
            with boundary(f"environment '{spec.name}'", on=f"the start of task '{self._start.task.id}'"):
                world, observation = await self._worlds.environment.open(self._start)
        if self._end:
            await self._close(world)
            raise EndpointUnavailable(f"the world is gone: it was freed while it started ({self._end})")
        self._world = world
        return observation

    async def _step(self, action: pb.Action) -> Observation:
        assert self._world is not None
        assert self._start is not None
        reply = decode_message(action.message)
        name, task = self._worlds.spec.name, self._start.task.id
        async with deadline(self._step_timeout_s, f"environment '{name}' to do step {action.step}"):
            with boundary(f"environment '{name}'", on=f"step {action.step} of task '{task}'"):
                return await self._world.step(reply)

    def _encoded(self, step: int, observation: Observation) -> pb.Observation:
        try:
            for name, number in (("reward", observation.reward or 0.0), *observation.components.items()):
                if not math.isfinite(number):
                    raise DataError(f"the '{name}' of step {step} is {number}; it must be finite or absent")
            return encode_observation(step, observation)
        except DataError as error:
            raise EndpointBroken(f"environment '{self._worlds.spec.name}': {error}") from error
        except (TypeError, AttributeError) as error:
            odd = {name: getattr(observation, name, None) for name in ("reward", "components")}
            what = f"environment '{self._worlds.spec.name}': step {step} shows what is no number"
            raise EndpointBroken(f"{what}: {odd!s:.300}") from error

    async def _close(self, world: World) -> None:
        name = self._worlds.spec.name
        try:
            async with deadline(CLOSE_TIMEOUT_S, f"a world of environment '{name}' to close"):
                with boundary(f"environment '{name}'", on="closing a world"):
                    await world.close()
        except RlforgeError as error:
            self._worlds.log.trouble(str(error))
        finally:
            self._worlds.freed(self)
