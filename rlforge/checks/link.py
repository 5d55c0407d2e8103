"""A wire that can be cut: bytes pass between a local port and the endpoint until the connection is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from rlforge.together import end

_PIECE = 64 * 1024


class Link:
    """What passes through a local port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._to = port
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Drop every connection without a word to either side."""
        for writer in self._writers:
            writer.transport.abort()

    async def end(self) -> None:
        """Drop what is left, and wait until nothing passes any more."""
        self.cut()
        await end(self._pumps)

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to the endpoint."""
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(_carry(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


@asynccontextmanager
async def linked(host: str, port: int) -> AsyncGenerator[Link]:
    """A link to an endpoint; its `port` is on loopback."""
    link = Link(host, port)
    server = await asyncio.start_server(link.join, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        await link.end()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
    sink.close()
