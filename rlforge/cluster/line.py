"""The calling end of a line: calls of a part in another process, over a connection of their own.

Ray starts the parts, knows them by name and sees when one dies. What is called for every rollout of every step goes
past it: a lone message through Ray costs both sides some 2 ms of processor time, over a connection a quarter of that.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from rlforge.cluster.messages import BUFFER_BYTES, GIVEN_UP, UNREADABLE, Address, Call, Outbox, received, told
from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, DeadlineExceeded, RlforgeError

CONNECT_S = 30.0
"""Seconds a part that runs may take to accept a connection."""


class Line:
    """Calls of the part at an address, many at once; opened by the first, on the event loop that it came from."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = name
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._outbox: Outbox[Call] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._over = ""  # why there will be no more answers

    async def call(self, method: str, argument: Any) -> Any:
        """What the method returns or raises there; cancelling the call cancels it there. The caller sets the deadline.

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
        """End the connection for good; calls under way end with ActorDied."""
        self._end(f"{self._name} was closed")

    async def _open(self) -> Outbox[Call]:
        if not self._over and self._opening is None:
            self._opening = asyncio.create_task(self._connect())
        if self._opening is not None:
            await asyncio.shield(self._opening)  # the same for all who wait, whoever of them gives up
        if self._outbox is None:
            raise ActorDied(self._over)
        return self._outbox

    async def _connect(self) -> None:
        """Leads to an outbox, or to the end of the line."""
        try:
            async with deadline(CONNECT_S, f"{self._name} to accept a connection"):
                reader, writer = await asyncio.open_connection(
                    self._address.host, self._address.port, limit=BUFFER_BYTES
                )
        except (OSError, DeadlineExceeded) as error:
            self._end(f"{self._name} died: it accepts no connection ({error})")
            return
        if self._over:
            writer.transport.abort()
            return
        writer.write(self._address.token)
        self._writer, self._outbox = writer, Outbox(writer, self._refused)
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = f"{self._name} died: the connection to it is closed"
        try:
            while answers := await received(reader):
                for number, outcome, error in answers:
                    if number == UNREADABLE:
                        why = f"{self._name} cannot read a call: {error}"
                    self._settle(number, outcome, error)
        except Exception as error:  # noqa: BLE001 - a customer's value may refuse to be made again in any way
            why = f"an answer of {self._name} cannot be read: {told(error)}"
        finally:
            self._end(why)

    def _end(self, why: str) -> None:
        self._over = self._over or why
        self._outbox = None
        if self._writer is not None:
            self._writer.transport.abort()  # to close it would wait for a part that reads no more
        for number in list(self._waiting):
            self._settle(number, None, ActorDied(self._over))

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
        what = f"sending a {type(argument).__name__} to {self._name} for {method}(): {told(error)}"
        self._settle(number, None, RlforgeError(f"{what}; everything a rollout carries must be picklable"))
