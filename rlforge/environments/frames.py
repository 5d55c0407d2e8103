"""Questions and answers between our process and those that hold worlds: a length, then a pickle."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("<Q")


def frame(said: Any) -> bytes:
    """Something said, as bytes. Raises what pickle raises for what cannot leave its process."""
    body = pickle.dumps(said, protocol=5)
    return _LENGTH.pack(len(body)) + body


async def heard(reader: asyncio.StreamReader) -> Any:
    """The next thing said. Raises IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


def received(sender: socket.socket) -> Any:
    """The next thing said over a blocking socket, and not a byte more. Raises EOFError at the end."""
    (length,) = _LENGTH.unpack(_exactly(sender, _LENGTH.size))
    return pickle.loads(_exactly(sender, length))


def _exactly(sender: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        if not (more := sender.recv(count - len(got))):
            raise EOFError
        got += more
    return bytes(got)
