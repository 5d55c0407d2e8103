"""Many small calls made in the same turn of the event loop travel as one message."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MOST = 64
"""Items of a message: the other side begins with the first of a burst while we still prepare the rest."""


def packed(message: object) -> bytes:
    """A message of our own values as bytes: Ray's pickler, made for code too, asks Python about every object in it."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def unpacked(message: bytes) -> Any:
    """What was packed."""
    return pickle.loads(message)


class Coalescer(Generic[Item, Outcome]):
    """Collects items and sends them together; answers come back in any order, several at a time.

    `send` takes the items of one turn and yields lists of (index, outcome or exception).
    """

    def __init__(self, send: Callable[[list[Item]], AsyncIterator[Sequence[tuple[int, Outcome | Exception]]]]) -> None:
        self._send = send
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def call(self, item: Item) -> Outcome:
        """The outcome of one item."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((item, answer))
        if len(self._waiting) >= MOST:
            self._flush()
        return await answer

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        sending = asyncio.ensure_future(self._deliver(batch))
        self._sending.add(sending)  # a task that nobody holds may be collected while it runs
        sending.add_done_callback(self._sending.discard)

    async def _deliver(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        failure: BaseException | None = None
        try:
            async for outcomes in self._send([item for item, _ in batch]):
                for index, outcome in outcomes:
                    _settle(batch[index][1], outcome)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for an answer
            failure = error
        for _, answer in batch:
            _settle(answer, failure or RuntimeError("the other side ended without answering"))


def _settle(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():  # the caller may have been cancelled
        return
    if isinstance(outcome, asyncio.CancelledError):
        answer.cancel()
    elif isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


async def as_they_finish(calls: Sequence[Coroutine[Any, Any, Any]]) -> AsyncIterator[tuple[int, Any]]:
    """Run calls at once; yield (index, result or exception) of each as it finishes."""
    finished: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

    async def run(index: int, call: Coroutine[Any, Any, Any]) -> None:
        try:
            finished.put_nowait((index, await call))
        except Exception as error:  # noqa: BLE001 - carried to the caller in another process
            finished.put_nowait((index, error))

    running = [asyncio.ensure_future(run(index, call)) for index, call in enumerate(calls)]
    try:
        for _ in running:
            yield await finished.get()
    finally:
        for task in running:
            task.cancel()


_END = object()


async def in_batches(items: AsyncIterator[Item]) -> AsyncIterator[list[Item]]:
    """The same items, all that are there at a time; an error is raised after the items before it."""
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def fill() -> None:
        async for item in items:
            queue.put_nowait(item)

    filling = asyncio.ensure_future(fill())
    filling.add_done_callback(lambda _: queue.put_nowait(_END))
    try:
        batch: list[Any] = []
        while not batch or batch[-1] is not _END:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            if items_only := [item for item in batch if item is not _END]:
                yield items_only
        await filling
    finally:
        filling.cancel()
