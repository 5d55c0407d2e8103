"""The calling end of a line: calls of a part in another process, over a connection of their own.

Ray starts the parts, knows them by name and sees when one dies. What is called for every rollout of every step goes
past it: a lone message through Ray costs both sides some 2 ms of processor time, over a connection a quarter of that.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from rlforge.cluster.messages import BUFFER_BYTES, GIVEN_UP, Address, Call, Outbox, received
from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, RlforgeError

CONNECT_S = 30.0
"""Seconds a part that runs may take to accept a connection."""


class Line:
    """Calls of the part at an address, many at once; opened by the first, on the event loop that it came from."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = name
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._opening = asyncio.Lock()
        self._outbox: Outbox[Call] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def call(self, method: str, argument: Any) -> Any:
        """What the method returns or raises there; cancelling the call cancels it there.

        Raises ActorDied when the part is gone.
        """
        outbox = self._outbox or await self._open()
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        outbox.put((number, method, argument))
        try:
            return await answer
        except asyncio.CancelledError:
            outbox.put((number, GIVEN_UP, None))
            raise
        finally:
            del self._waiting[number]

    def close(self) -> None:
        """End the connection; calls under way end with ActorDied."""
        if self._writer is not None:
            self._writer.close()

    async def _open(self) -> Outbox[Call]:
        async with self._opening:
            if self._reading is None:
                reader, self._writer = await self._connected()
                self._outbox = Outbox(self._writer, self._refused)
                self._reading = asyncio.create_task(self._read(reader))
            if self._outbox is None:
                raise self._gone()
            return self._outbox

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with deadline(CONNECT_S, f"{self._name} to accept a connection"):
                reader, writer = await asyncio.open_connection(
                    self._address.host, self._address.port, limit=BUFFER_BYTES
                )
        except OSError as error:
            raise self._gone() from error
        writer.write(self._address.token)
        return reader, writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while answers := await received(reader):
                for number, outcome, error in answers:
                    self._settle(number, outcome, error)
        finally:
            self._outbox = None
            self.close()
            for number in list(self._waiting):
                self._settle(number, None, self._gone())

    def _settle(self, number: int, outcome: Any, error: BaseException | None) -> None:
        answer = self._waiting.get(number)
        if answer is None or answer.done():  # the caller may have given up
            return
        if error is None:
            answer.set_result(outcome)
        else:
            answer.set_exception(error)

    def _refused(self, call: Call, error: Exception) -> None:
        number, method, argument = call
        what = f"sending a {type(argument).__name__} to {self._name} for {method}(): {error}"
        self._settle(number, None, RlforgeError(f"{what}; everything a rollout carries must be picklable"))

    def _gone(self) -> ActorDied:
        return ActorDied(f"{self._name} died: the connection to it is closed")
