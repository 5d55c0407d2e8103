"""An environment whose worlds live in processes of their own: one that dies breaks its worlds only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from rlforge.deadlines import deadline
from rlforge.environments.luggage import pack
from rlforge.environments.process_line import ProcessLine
from rlforge.errors import DeadlineExceeded, EndpointError, EndpointRefused, EndpointUnavailable
from rlforge.types import EnvironmentSpec, Message, Observation, Task, WorldStart

_GRACE_S = 2.0
"""Seconds beyond a world's own limit: the process keeps that limit itself while it can."""
_CLOSE_S = 12.0
_LISTING_S = 300.0


class SpreadEnvironment:
    """Implements `Environment`. Each world goes to the process that has the fewest; a dead process is replaced."""

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

    async def close(self) -> None:
        self._closed = True
        async with self._lock:
            if self.line is not None:
                await self.line.stop()


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
        self._closed = False
        seat.worlds += 1

    async def begin(self) -> Observation:
        """Open it in the process and show it."""
        try:
            self._line = await self._seat.ready()
        except BaseException:
            self._leave()
            raise
        return await self._in_time(self._line, "open", self._start)

    async def step(self, reply: Message) -> Observation:
        """What the world shows after the model's reply."""
        if self._closed or self._line is None:
            raise EndpointRefused(f"{self._what}: the world is closed; open another")
        return await self._in_time(self._line, "step", reply)

    async def close(self) -> None:
        """Free the world at once, and wait for the user's `close` unless a step is under way."""
        if self._leave() and self._line is not None:
            await self._put_away(self._line)

    async def _in_time(self, line: ProcessLine, verb: str, given: Any) -> Observation:
        try:
            if self._limit_s is None:
                return await line.ask(verb, self._number, given)
            async with deadline(self._limit_s, f"{self._what}: its {verb}"):
                return await line.ask(verb, self._number, given)
        except BaseException as error:
            if self._leave():
                with suppress(EndpointError):
                    line.tell("close", self._number)
            if not isinstance(error, EndpointError):
                line.doubt()  # a step that did not come back may have hung the whole process
            raise

    async def _put_away(self, line: ProcessLine) -> None:
        try:
            async with deadline(_CLOSE_S, f"{self._what}: its close()"):
                await line.ask("close", self._number)
        except DeadlineExceeded:
            line.doubt()
        except EndpointError:
            return

    def _leave(self) -> bool:
        """Give the place back; whether it had not been given back before."""
        if self._closed:
            return False
        self._closed = True
        self._seat.worlds -= 1
        return True
