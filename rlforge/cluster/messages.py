"""What a line carries: plain pickles behind their length; all that is ready in one turn of the event loop in one."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from rlforge.errors import RlforgeError

Item = TypeVar("Item")

MOST = 64
"""Items of a message: the other side begins with the first of a burst while we still prepare the rest."""
BUFFER_BYTES = 2**20
"""What a reader holds of messages that are still coming, before it lets the sender wait."""
_LENGTH_BYTES = 8
TOKEN_BYTES = 32
GIVEN_UP = ""
"""In the place of a method: nobody waits for the call of this number any more."""

UNREADABLE = -1
"""In the place of a number: the answer to calls that came in a message nobody can read; the line ends with it."""

Call: TypeAlias = tuple[int, str, Any]
"""Number, method, argument."""
Answer: TypeAlias = tuple[int, Any, Exception | None]
"""Number of the call, what it returned, what it raised."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a part answers."""

    host: str
    port: int
    token: bytes = field(repr=False)
    """Proves that a caller belongs to the run, before anything of it is unpickled."""


class Outbox(Generic[Item]):
    """Sends the items of one turn of the event loop as one message.

    What cannot be pickled is handed to `refused`, with the reason; the items it would have travelled with go on.
    """

    def __init__(self, writer: asyncio.StreamWriter, refused: Callable[[Item, Exception], None]) -> None:
        self._writer = writer
        self._refused = refused
        self._items: list[Item] = []

    def put(self, item: Item) -> None:
        """Send an item soon; nothing happens once the connection is closed."""
        if not self._items:
            asyncio.get_running_loop().call_soon(self.flush)
        self._items.append(item)
        if len(self._items) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Send what waits at once."""
        items, self._items = self._items, []
        if not items or self._writer.is_closing():
            return
        try:
            self._write(packed(items))
        except Exception:  # noqa: BLE001 - a customer's value may refuse in any way
            for item in items:
                self._alone(item)

    def _alone(self, item: Item) -> None:
        try:
            self._write(packed([item]))
        except Exception as error:  # noqa: BLE001 - as above
            self._refused(item, error)

    def _write(self, message: bytes) -> None:
        self._writer.write(len(message).to_bytes(_LENGTH_BYTES, "big") + message)


def packed(items: list[Any]) -> bytes:
    """A message of our own values as bytes: Ray's pickler, made for code too, asks Python about every object in it."""
    return pickle.dumps(items, protocol=pickle.HIGHEST_PROTOCOL)


def told(error: BaseException) -> str:
    """Kind and text of an error; the text is code of whoever wrote the error, and may fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - as above
        return type(error).__name__


def portable(fault: BaseException, doing: str) -> Exception:
    """An error as it can be raised in another process, with the place it came from; ours say all by themselves.

    Many errors of other packages pickle but cannot be made again from that.
    """
    if isinstance(fault, Exception) and not isinstance(fault, RlforgeError):
        fault.add_note(f"{doing}, in another process:\n{''.join(traceback.format_exception(fault)).rstrip()}")
    try:
        again = pickle.loads(packed([fault]))[0]
    except Exception:  # noqa: BLE001 - as above
        again = None
    return again if isinstance(again, Exception) else RlforgeError(f"{doing}: {told(fault)}")


async def received(reader: asyncio.StreamReader) -> list[Any] | None:
    """The items of the next message; None when the other side is gone. What pickle raises, when it cannot be read."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        message = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None
    return pickle.loads(message)
