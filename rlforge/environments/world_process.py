"""A process that holds worlds of the user's, under a guardian that kills all of it when its owner is gone.

It hears `(number, verb, arguments)` and says `(number, result, None)` or `(number, None, (kind of error, message))`;
number 0 says how its start went. When its owner hangs up it ends.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from rlforge.environments.adapt import adapt_here
from rlforge.environments.frames import frame, heard, received
from rlforge.environments.local import LocalEnvironment
from rlforge.environments.luggage import unpack
from rlforge.errors import EndpointBroken, EndpointRefused, ExtensionError, RlforgeError, boundary
from rlforge.interfaces import Environment, World
from rlforge.processes import die_with_owner
from rlforge.types import EnvironmentSpec, Message, Observation, Task, WorldStart


class WorldProcess:
    """Does what it is asked, everything at once."""

    def __init__(self, writer: asyncio.StreamWriter, environment: Environment) -> None:
        self._writer = writer
        self._environment = environment
        self._worlds: dict[int, World] = {}
        self._opening: dict[int, asyncio.Task[Any]] = {}
        self._starts: dict[int, WorldStart] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "describe": self._describe,
            "tasks": self._list,
            "open": self._open,
            "step": self._step,
            "close": self._close,
            "ping": self._ping,
        }

    def hear(self, number: int, verb: str, arguments: tuple[Any, ...]) -> None:
        """Begin to do it."""
        task = asyncio.get_running_loop().create_task(self._do(number, verb, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, number: int, verb: str, arguments: tuple[Any, ...]) -> None:
        try:
            with boundary(f"a world process, asked to {verb}"):
                said = frame((number, await self._verbs[verb](*arguments), None))
        except RlforgeError as error:
            said = frame((number, None, told(error)))
        self._writer.write(said)

    async def _describe(self) -> EnvironmentSpec:
        return await self._environment.describe()

    async def _list(self, split: str, offset: int, limit: int) -> list[Task]:
        return [task async for task in self._environment.tasks(split, offset, limit)]

    async def _open(self, world: int, start: WorldStart) -> Observation:
        opening = asyncio.ensure_future(self._environment.open(start))
        self._opening[world], self._starts[world] = opening, start
        try:
            self._worlds[world], observation = await opening
        except asyncio.CancelledError as error:
            raise EndpointRefused("the world was closed while it opened") from error
        finally:
            del self._opening[world]
        return observation

    async def _step(self, world: int, reply: Message) -> Observation:
        if world not in self._worlds:
            raise EndpointRefused("the world is closed; open another")
        return await self._worlds[world].step(reply)

    async def _close(self, world: int) -> None:
        """Answered when none of the user's code runs for this world any more."""
        start = self._starts.pop(world, None)
        if opening := self._opening.get(world):
            opening.cancel()
            await asyncio.wait({opening})
        if world in self._worlds:
            await self._worlds.pop(world).close()
        if start is not None and isinstance(self._environment, LocalEnvironment):
            await self._environment.gone(start)

    async def _ping(self) -> None:
        return


def told(error: RlforgeError) -> tuple[str, str]:
    """An error as it goes to the owner: its kind and its message."""
    kind = EndpointBroken if isinstance(error, ExtensionError) else type(error)
    return kind.__name__, str(error)


def main() -> None:
    """Unpack the user's thing and hold its worlds until the owner hangs up."""
    talk = socket.socket(fileno=int(sys.argv[1]))
    try:
        environment = adapt_here(unpack(received(talk)))  # before there is a loop: the user's module may run its own
    except RlforgeError as error:
        talk.sendall(frame((0, None, ("ConfigError", str(error)))))
        return
    asyncio.run(serve(talk, environment))


async def serve(talk: socket.socket, environment: Environment) -> None:
    """Do what the owner asks until it hangs up."""
    reader, writer = await asyncio.open_connection(sock=talk)
    process = WorldProcess(writer, environment)
    writer.write(frame((0, None, None)))
    try:
        while True:
            process.hear(*await heard(reader))
    except (asyncio.IncompleteReadError, ConnectionError):
        return


if __name__ == "__main__":
    die_with_owner(os.getppid())  # should the guardian itself be killed
    faulthandler.enable(2)
    main()
    os._exit(0)  # threads that the user's code left running do not hold the process
