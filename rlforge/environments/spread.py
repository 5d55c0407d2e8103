"""An environment whose worlds live in processes of their own: one that dies breaks its worlds only."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from typing import Any

from rlforge.deadlines import deadline
from rlforge.environments.luggage import pack
from rlforge.environments.process_line import ProcessLine
from rlforge.errors import DeadlineExceeded, EndpointError, EndpointRefused, EndpointUnavailable
from rlforge.types import EnvironmentSpec, Message, Observation, Task, WorldStart

_GRACE_S = 2.0
"""Seconds beyond a world's own limit: the process keeps that limit itself while it can."""
_CLOSE_S = 12.0
"""Seconds for the user's `close`, a step that still runs included; then a process without other worlds is ended."""
_ABANDONED_S = 600.0
"""Seconds after which the place of a world that its process does not close is given to another."""
_ENDED = "%s: it did not close within %g s; its process, which has no other world, is ended"
_STILL_RUNS = "%s: it did not close within %g s; its place is free when it does, or after %g s"
_LISTING_S = 300.0

_log = logging.getLogger("rlforge.environments")


class SpreadEnvironment:
    """Implements `Environment` and `CountsWorlds`.

    Each world goes to the process that has the fewest; a dead process is replaced.
    """

    def __init__(self, thing: Any, processes: int) -> None:
        self._label = getattr(thing, "__name__", type(thing).__name__)
        luggage = pack(thing)
        self._seats = [_Seat(luggage, self._label) for _ in range(processes)]
        self._numbers = itertools.count()
        self._spec: EnvironmentSpec | None = None
        self._describing = asyncio.Lock()
        self._closed = False

    async def describe(self) -> EnvironmentSpec:
        """What kind it is. Raises ConfigError when the thing cannot be imported there or is no environment."""
        if self._spec is None:
            async with self._describing:
                spec: EnvironmentSpec = self._spec or await self._ask("describe")
                self._spec = spec
        return self._spec

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split; `limit` 0 means all."""
        for task in await self._ask("tasks", split, offset, limit):
            yield task

    async def open(self, start: WorldStart) -> tuple[SpreadWorld, Observation]:
        """A new world and what it first shows."""
        spec = await self.describe()
        seat = min(self._seats, key=lambda seat: seat.worlds)
        world = SpreadWorld(next(self._numbers), seat, start, spec)
        return world, await world.begin()

    @property
    def occupied(self) -> int:
        """Worlds that live, and those given up that their processes have not closed yet."""
        return sum(seat.worlds for seat in self._seats)

    async def close(self) -> None:
        """End the processes. May be called twice."""
        self._closed = True
        await asyncio.gather(*(seat.close() for seat in self._seats))

    async def _ask(self, verb: str, *arguments: Any) -> Any:
        if self._closed:
            raise EndpointUnavailable(f"environment '{self._label}' is closed")
        line = await min(self._seats, key=lambda seat: seat.line is None).ready()
        async with deadline(_LISTING_S, f"environment '{self._label}' to answer '{verb}'"):
            return await line.ask(verb, *arguments)


class _Seat:
    """A place for one process at a time."""

    def __init__(self, luggage: bytes, label: str) -> None:
        self.line: ProcessLine | None = None
        self.worlds = 0
        self._luggage = luggage
        self._label = label
        self._lock = asyncio.Lock()
        self._clearing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ready(self) -> ProcessLine:
        """The process, started when there is none or when it has ended."""
        async with self._lock:
            if self._closed:
                raise EndpointUnavailable(f"environment '{self._label}' is closed")
            if self.line is None or self.line.ended:
                old, self.line = self.line, None
                if old is not None:
                    await old.stop()
                self.line = await ProcessLine.start(self._luggage, self._label)
            return self.line

    def clear(self, line: ProcessLine, world: int, what: str) -> asyncio.Task[None]:
        """Have a world closed; its place is free when it is."""
        clearing = asyncio.get_running_loop().create_task(self._clear(line, world, what))
        self._clearing.add(clearing)
        clearing.add_done_callback(self._clearing.discard)
        return clearing

    async def close(self) -> None:
        self._closed = True
        async with self._lock:
            if self.line is not None:
                await self.line.stop()

    async def _clear(self, line: ProcessLine, world: int, what: str) -> None:
        closing = asyncio.ensure_future(line.ask("close", world))
        try:
            await asyncio.wait({closing}, timeout=_CLOSE_S)
            if not closing.done() and self.worlds == 1:
                _log.warning(_ENDED, what, _CLOSE_S)
                await line.stop()
            elif not closing.done():
                _log.warning(_STILL_RUNS, what, _CLOSE_S, _ABANDONED_S)
                line.doubt()
            async with deadline(_ABANDONED_S, f"{what}: its process to close it"):
                await closing
        except EndpointError:
            return  # the process has ended, and the world with it
        except DeadlineExceeded as late:
            _log.warning("%s", late)
        finally:
            closing.cancel()
            self.worlds -= 1


class SpreadWorld:
    """Implements `World`."""

    def __init__(self, number: int, seat: _Seat, start: WorldStart, spec: EnvironmentSpec) -> None:
        self._number = number
        self._seat = seat
        self._start = start
        self._what = f"environment '{spec.name}' on task '{start.task.id}', seed {start.seed}"
        limits = [each for each in (start.step_timeout_s or spec.step_timeout_s, start.lifetime_s) if each]
        self._limit_s = min(limits) + _GRACE_S if limits else None
        self._line: ProcessLine | None = None
        self._asking = False
        self._closed = False
        seat.worlds += 1

    async def begin(self) -> Observation:
        """Open it in the process and show it."""
        try:
            self._line = await self._seat.ready()
        except BaseException:
            self._closed = True
            self._seat.worlds -= 1
            raise
        return await self._in_time(self._line, "open", self._start)

    async def step(self, reply: Message) -> Observation:
        """What the world shows after the model's reply."""
        if self._closed or self._line is None:
            raise EndpointRefused(f"{self._what}: the world is closed; open another")
        return await self._in_time(self._line, "step", reply)

    async def close(self) -> None:
        """Free the world at once, and wait for the user's `close` unless a step is under way."""
        clearing = self._leave()
        if clearing is not None and not self._asking:
            await asyncio.wait({clearing}, timeout=_CLOSE_S)

    async def _in_time(self, line: ProcessLine, verb: str, given: Any) -> Observation:
        self._asking = True
        try:
            if self._limit_s is None:
                return await line.ask(verb, self._number, given)
            async with deadline(self._limit_s, f"{self._what}: its {verb}"):
                return await line.ask(verb, self._number, given)
        except BaseException as error:
            self._leave()
            if not isinstance(error, EndpointError):
                line.doubt()  # a step that did not come back may have hung the whole process
            raise
        finally:
            self._asking = False

    def _leave(self) -> asyncio.Task[None] | None:
        """Give the world up; the closing of it, at the first time."""
        if self._closed or self._line is None:
            return None
        self._closed = True
        return self._seat.clear(self._line, self._number, self._what)
