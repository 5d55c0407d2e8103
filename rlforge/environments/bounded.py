"""No more worlds at once than an environment has room for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from rlforge.errors import EndpointBusy
from rlforge.interfaces import CountsWorlds, Environment, World
from rlforge.types import EnvironmentSpec, Message, Observation, Task, WorldStart


class BoundedEnvironment:
    """Implements `Environment` and `CountsWorlds`: another one with at most `worlds` worlds.

    A world that was given up keeps its place until the other environment has closed it.
    """

    def __init__(self, inner: Environment, worlds: int) -> None:
        self._inner = inner
        self._counting = inner if isinstance(inner, CountsWorlds) else None
        self._worlds = worlds
        self._taken = 0

    async def describe(self) -> EnvironmentSpec:
        """What kind it is, with its bound."""
        return replace(await self._inner.describe(), max_worlds=self._worlds)

    def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split."""
        return self._inner.tasks(split, offset, limit)

    async def open(self, start: WorldStart) -> tuple[World, Observation]:
        """A new world and what it first shows. Raises EndpointBusy when all places are taken."""
        if self.occupied >= self._worlds:
            raise EndpointBusy(f"all {self._worlds} worlds are in use; ask again when one is freed, or serve more")
        place = _Place(self)
        try:
            world, observation = await self._inner.open(start)
        except BaseException:
            place.free()
            raise
        return _BoundedWorld(world, place), observation

    @property
    def occupied(self) -> int:
        """Places taken."""
        return max(self._taken, self._counting.occupied if self._counting else 0)

    async def close(self) -> None:
        """Free every world."""
        await self._inner.close()

    def count(self, change: int) -> None:
        """A place is taken or given back."""
        self._taken += change


class _Place:
    """One of the places, given back once however often it is freed."""

    def __init__(self, environment: BoundedEnvironment) -> None:
        self._environment: BoundedEnvironment | None = environment
        environment.count(1)

    def free(self) -> None:
        if self._environment is not None:
            self._environment.count(-1)
            self._environment = None


class _BoundedWorld:
    """Implements `World`."""

    def __init__(self, inner: World, place: _Place) -> None:
        self._inner = inner
        self._place = place

    async def step(self, reply: Message) -> Observation:
        try:
            return await self._inner.step(reply)
        except BaseException:
            self._place.free()  # a world is gone after a failed step
            raise

    async def close(self) -> None:
        try:
            await self._inner.close()
        finally:
            self._place.free()
