"""Calls made one by one in the same turn of the event loop become one call with all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from rlforge.errors import ActorDied

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Coalescer(Generic[Item, Outcome]):
    """Collects the items of one turn and asks for all their outcomes together; an error is everybody's."""

    def __init__(self, ask: Callable[[list[Item]], Awaitable[Sequence[Outcome]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def call(self, item: Item) -> Outcome:
        """The outcome of one item."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((item, answer))
        return await answer

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        asking = asyncio.ensure_future(self._settle(batch))
        self._asking.add(asking)  # a task that nobody holds may be collected while it runs
        asking.add_done_callback(self._asking.discard)

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        answers = [answer for _, answer in batch]
        try:
            outcomes = await self._ask([item for item, _ in batch])
            for answer, outcome in zip(answers, outcomes, strict=True):
                if not answer.done():  # its caller may have given up
                    answer.set_result(outcome)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for an answer
            _fail(answers, error)
        except asyncio.CancelledError:
            _fail(answers, ActorDied("what was asked for together was cancelled there"))
            raise


def _fail(answers: Sequence[asyncio.Future[Outcome]], error: Exception) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
