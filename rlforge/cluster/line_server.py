"""The answering end of a line: methods of a part, for whoever of the run knows its address."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from rlforge.cluster.messages import (
    BUFFER_BYTES,
    GIVEN_UP,
    TOKEN_BYTES,
    UNREADABLE,
    Address,
    Answer,
    Call,
    Outbox,
    portable,
    received,
    told,
)
from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, DeadlineExceeded, RlforgeError

GREETING_S = 30.0
"""Seconds in which a connection must show its token."""

Method: TypeAlias = Callable[[Any], Awaitable[Any]]


class LineServer:
    """Answers calls of the methods it is given, each connection many at once."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._server: asyncio.Server | None = None

    async def open(self, towards: str) -> Address:
        """Listen on the address of this machine by which the one at `towards` reaches it, on a free port."""
        host = _own_address(towards)
        self._server = await asyncio.start_server(self._serve, host, 0, limit=BUFFER_BYTES)
        return Address(host, self._server.sockets[0].getsockname()[1], self._token)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self._methods, writer)
        try:
            if await self._greeted(reader):
                while calls := await received(reader):
                    connection.take(calls)
        except Exception as error:  # noqa: BLE001 - a customer's value may refuse to be made again in any way
            connection.part(error)
        finally:
            connection.end()
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader) -> bool:
        try:
            async with deadline(GREETING_S, "a caller to show its token"):
                return hmac.compare_digest(await reader.readexactly(TOKEN_BYTES), self._token)
        except (asyncio.IncompleteReadError, OSError, DeadlineExceeded):
            return False


class _Connection:
    """The calls of one caller that are under way."""

    def __init__(self, methods: Mapping[str, Method], writer: asyncio.StreamWriter) -> None:
        self._methods = methods
        self._outbox: Outbox[Answer] = Outbox(writer, self._refused)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def take(self, calls: list[Call]) -> None:
        """Begin calls, and end those that their callers gave up."""
        for number, method, argument in calls:
            if method != GIVEN_UP:
                self._running[number] = asyncio.create_task(self._answer(number, method, argument))
            elif number in self._running:
                self._give_up(number)

    def part(self, error: Exception) -> None:
        """Tell the caller why none of its calls will be answered: which of them cannot be read, nobody can say."""
        reason = f"{told(error)}; what a rollout carries must be importable in every part of the run"
        self._outbox.put((UNREADABLE, None, RlforgeError(reason)))
        self._outbox.flush()

    def end(self) -> None:
        """The caller is gone: end all its calls."""
        for number in list(self._running):
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        task = self._running.pop(number)
        self._ending.add(task)  # it may have worlds to close, and a task that nobody holds may be collected
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _answer(self, number: int, method: str, argument: Any) -> None:
        outcome, fault = None, None
        try:
            outcome = await self._methods[method](argument)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - carried to the caller in another process
            fault = portable(error, f"{method}()")
        except asyncio.CancelledError:
            if number not in self._running:
                raise
            fault = ActorDied(f"{method}() was cancelled there")  # by the part itself
        if self._running.pop(number, None) is not None:
            self._outbox.put((number, outcome, fault))

    def _refused(self, answer: Answer, error: Exception) -> None:
        number, outcome, _ = answer
        self._outbox.put((number, None, RlforgeError(f"sending back a {type(outcome).__name__}: {told(error)}")))


def _own_address(towards: str) -> str:
    """Asks the system which way it would go; nothing is sent."""
    family, kind, protocol, _, target = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])
