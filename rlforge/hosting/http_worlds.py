"""The worlds of an HTTP server: found by name, freed when nobody asks for them any more."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

from rlforge.errors import EndpointRefused
from rlforge.hosting.faults import UnknownWorld
from rlforge.hosting.worlds import HostedWorld, Worlds
from rlforge.wire.pb import environment_pb2 as pb

REMEMBERED_S = 60.0
"""Seconds for which the last answer of a world that is over can be had again."""
LOOK_EVERY_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}")


class _Named:
    """A world with its name, and when it was last asked for."""

    __slots__ = ("acting", "began", "used", "world")

    def __init__(self, world: HostedWorld) -> None:
        self.world = world
        self.acting = asyncio.Lock()  # a step that comes again while the first still runs waits for its answer
        self.began = self.used = time.monotonic()


class HttpWorlds:
    """Worlds by name. No connection says whether a client lives, so a world that idles too long is freed."""

    def __init__(self, worlds: Worlds) -> None:
        self.worlds = worlds
        self._named: dict[str, _Named] = {}

    async def open(self, action: pb.Action, key: str) -> tuple[str, pb.Observation]:
        """The name of a new world and its first observation; the same world when `key` comes again."""
        if action.step != 0:
            raise EndpointRefused(f"a world begins with step 0, not {action.step}")
        if key and not _NAME.fullmatch(key):
            raise EndpointRefused("idempotency-key must be 16 to 64 letters, digits, _ or -")
        name = key or uuid.uuid4().hex
        if name not in self._named:
            self._named[name] = _Named(self.worlds.admit())
        try:
            return name, await self.act(name, action)
        except BaseException:
            self.free(name)
            raise

    async def act(self, name: str, action: pb.Action) -> pb.Observation:
        """The answer to a step. Raises UnknownWorld, or what the world raises."""
        named = self._named.get(name)
        if named is None:
            raise UnknownWorld("no such world lives here: it idled too long, was freed, or the server has started anew")
        async with named.acting:
            try:
                return await named.world.act(action)
            finally:
                named.used = time.monotonic()

    def free(self, name: str) -> None:
        """Free a world, whatever it is doing; nothing when there is none."""
        named = self._named.pop(name, None)
        if named is not None:
            named.world.free("left")

    async def watch(self) -> None:
        """Free worlds that idle or have lived their time, until cancelled."""
        while True:
            await asyncio.sleep(min(LOOK_EVERY_S, self.worlds.limits.idle_s / 4))
            now = time.monotonic()
            for name, named in tuple(self._named.items()):
                self._look_at(name, named, now)

    def _look_at(self, name: str, named: _Named, now: float) -> None:
        world, idle_s = named.world, self.worlds.limits.idle_s
        if world.over:
            if now - named.used > min(REMEMBERED_S, idle_s):
                del self._named[name]
        elif world.lifetime_s and now - named.began > world.lifetime_s:
            world.free("lifetime")
        elif not named.acting.locked() and now - named.used > idle_s:
            world.free("idle")
