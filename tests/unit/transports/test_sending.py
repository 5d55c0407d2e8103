"""A send that fails does not hide what the server said."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from rlforge.transports.grpc_sending import send


class _Calls(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler({"/t/Full": _full, "/t/Deaf": _deaf}[handler_call_details.method])


async def _full(_requests: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("retry-after-ms", "5"),))


async def _deaf(_requests: Any, _context: Any) -> None:
    await asyncio.sleep(60)


def _serve(port: Any) -> None:
    async def serving() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_Calls(),))
        port.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination(60)

    asyncio.run(serving())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server in a process of its own, so that it answers while the client's event loop stands still."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        assert ours.poll(60)
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


async def test_a_refusal_that_crosses_a_message_is_told_as_the_server_said_it(address: str) -> None:
    crossed = 0
    async with grpc.aio.insecure_channel(address) as channel:
        for _ in range(20):
            call: Any = channel.stream_stream("/t/Full")()
            sending = asyncio.create_task(send(call, b"a message"))
            await asyncio.sleep(0)  # the stream is on its way
            time.sleep(0.02)  # noqa: ASYNC251 (the refusal arrives, and our event loop has not heard of it)
            crossed += not await sending
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            assert ("retry-after-ms", "5") in tuple(refused.value.trailing_metadata())
    assert crossed


async def test_a_message_that_cannot_be_sent_ends_the_call_though_the_server_says_nothing(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream("/t/Deaf")()
        await call.wait_for_connection()
        await call.done_writing()
        assert not await send(call, b"one more")
        with pytest.raises(grpc.aio.AioRpcError, match="Internal error from Core"):
            await call.read()
