"""What environments behind every kind of address share: describing once, and patience when no world is free."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable

from rlforge.errors import EndpointBusy
from rlforge.interfaces import World
from rlforge.transports.config import EndpointConfig
from rlforge.types import EnvironmentSpec, Observation, Task, WorldStart

STEP_TIMEOUT_S = 60.0
"""Seconds a step may take where neither the rollout nor the environment says."""
GRACE_S = 1.0
"""Seconds a client waits beyond a step's deadline, so that the server's own word about it arrives."""
PAUSE_S = 0.25
"""Seconds between attempts at a busy endpoint that gives no advice."""
LONGEST_PAUSE_S = 10.0
SHORTEST_PAUSE_S = 0.005


class RemoteEnvironment(ABC):
    """An environment behind an address: opens no more worlds than it has, and waits for one where all are taken."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._spec: EnvironmentSpec | None = None
        self._describing = asyncio.Lock()
        self._slots: asyncio.Semaphore | None = None
        self._turn = asyncio.Lock()
        self._pause_s = 0.0

    async def describe(self) -> EnvironmentSpec:
        """What kind it is; asked once. Raises EndpointError or DeadlineExceeded."""
        if self._spec is None:
            async with self._describing:
                if self._spec is None:
                    self._spec = await self._describe()
                    self._slots = asyncio.Semaphore(self._spec.max_worlds) if self._spec.max_worlds else None
        return self._spec

    @abstractmethod
    def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split in their order."""

    async def open(self, start: WorldStart) -> tuple[World, Observation]:
        """A new world; waits up to `busy_timeout_s` while none is free, then raises EndpointBusy."""
        await self.describe()
        patience = asyncio.get_running_loop().time() + self.config.busy_timeout_s
        if self._slots is not None:
            await self._within(patience, self._slots.acquire())
        try:
            return await self._open_when_free(start, patience)
        except BaseException:
            self.freed()
            raise

    def freed(self) -> None:
        """Called by a world of ours when it is gone."""
        self._pause_s /= 2
        if self._slots is not None:
            self._slots.release()

    async def close(self) -> None:
        """Free every world and the connection. May be called twice."""
        await self._close()

    def step_timeout_s(self, start: WorldStart) -> float:
        """Seconds this client waits for an answer of a world."""
        said = start.step_timeout_s or (self._spec.step_timeout_s if self._spec else 0.0)
        return (said or STEP_TIMEOUT_S) + GRACE_S

    async def _open_when_free(self, start: WorldStart, patience: float) -> tuple[World, Observation]:
        while True:
            if self._pause_s > SHORTEST_PAUSE_S:
                await self._within(patience, self._take_turn())
            try:
                opened = await self._open(start)
            except EndpointBusy as busy:
                self._pause_s = min(max(busy.retry_after_s, PAUSE_S), LONGEST_PAUSE_S)
            else:
                self._pause_s /= 2
                return opened

    async def _take_turn(self) -> None:
        """One question at a time, at the pace the endpoint asks for, however many wait."""
        async with self._turn:
            await asyncio.sleep(self._pause_s * random.uniform(0.75, 1.25))

    async def _within(self, patience: float, waiting: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout_at(patience):
                await waiting
        except TimeoutError as error:
            raise EndpointBusy(
                f"no world at {self.config.address} came free within {self.config.busy_timeout_s:g} s; "
                "serve more worlds or let fewer rollouts run at once (busy_timeout_s says how long to wait)"
            ) from error

    @abstractmethod
    async def _describe(self) -> EnvironmentSpec: ...

    @abstractmethod
    async def _open(self, start: WorldStart) -> tuple[World, Observation]: ...

    @abstractmethod
    async def _close(self) -> None: ...
