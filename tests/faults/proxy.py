"""A TCP proxy on loopback that does to connections what networks and servers do to them, and an HTTP one on top of it.

`Proxy` knows bytes alone, so that gRPC goes through it as HTTP does: it refuses, resets, hangs, drips and garbles.
`HttpProxy` reads whole requests and answers, and changes those: errors, wrong ids, duplicated answers. `GrpcProxy` does
the same to the answers of a reward endpoint over gRPC.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeAlias

import grpc
import grpc.aio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import reward_pb2

Fault = Literal["reset", "hang", "garbage", "drip"]
Change: TypeAlias = Callable[[Any], Any]
"""What becomes of an answer, which is a JSON value: see the functions at the end."""


class Proxy:
    """Passes connections on to a port; every one of them meets a fault with probability `share`.

    The very first one does for certain where it is `always_first`. A drip lets 40 bytes pass every `pause_s` seconds.
    """

    def __init__(
        self,
        target: int,
        *,
        faults: tuple[Fault, ...] = (),
        share: float = 0.3,
        seed: int = 0,
        always_first: bool = False,
        pause_s: float = 0.002,
    ) -> None:
        self._target = target
        self._faults = faults
        self._share = share
        self._draw = random.Random(seed)
        self._always_first = always_first
        self._pause_s = pause_s
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self.done: Counter[str] = Counter()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Listen, on the port it had before where it is told to."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse and drop everything, as a killed server does."""
        if self._server:
            self._server.close()
        await self.drop()

    def silence(self) -> None:
        """Pass nothing on from now on, and keep every connection, as a cut cable does."""
        self._passing.clear()

    async def drop(self) -> None:
        """Drop what is connected."""
        open_now = [task for task in self._open if task is not asyncio.current_task()]
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        fault = self._drawn()
        self.done[fault or "passed"] += 1
        try:
            await self._serve(reader, writer, fault)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._open.discard(task)
            with suppress(OSError):
                writer.close()

    def _drawn(self) -> Fault | None:
        drawn = self._draw.random() < self._share or (self._always_first and not self.done)
        return self._draw.choice(self._faults) if self._faults and drawn else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        if fault == "hang":
            await asyncio.sleep(3600)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            forth = asyncio.create_task(self._pump(reader, back, None))
            try:
                await self._pump(there, writer, fault)
            finally:
                forth.cancel()
                await asyncio.gather(forth, return_exceptions=True)
        finally:
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        while data := await reader.read(1 << 16):
            await self._passing.wait()
            if fault == "reset":
                writer.write(data[: len(data) // 2])
                raise ConnectionResetError
            if fault == "garbage":
                data = bytes(byte ^ 0x5A for byte in data)
            for piece in [data[i : i + 40] for i in range(0, len(data), 40)] if fault == "drip" else [data]:
                writer.write(piece)
                await writer.drain()
                if fault == "drip":
                    await asyncio.sleep(self._pause_s)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    with suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
    transport: Any = writer.transport
    transport.abort()


class _Changes:
    """Answers as JSON values, of which a share `share` meets one of `changes`."""

    def __init__(self, changes: tuple[Change, ...], share: float, seed: int) -> None:
        self._changes = changes
        self._share = share
        self._draw = random.Random(seed)
        self.done: Counter[str] = Counter()

    async def of(self, answer: Any) -> Any:
        """The answer, or what became of it: another one, bytes in its place, or a status."""
        if self._draw.random() >= self._share:
            return answer
        change = self._draw.choice(self._changes)
        self.done[change.__name__] += 1
        changed = change(answer)
        return await changed if inspect.isawaitable(changed) else changed


class HttpProxy:
    """Passes requests on to an address; good answers to a POST below one of `paths` may be changed."""

    def __init__(self, target: str, changes: _Changes, paths: tuple[str, ...]) -> None:
        self._client = httpx.AsyncClient(base_url=target, trust_env=False, timeout=30)
        self._changes = changes
        self._paths = paths

    @property
    def done(self) -> Counter[str]:
        return self._changes.done

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        try:
            asked = await request.body()
        except ClientDisconnect:
            return Response(status_code=499)
        said = await self._client.request(request.method, path, content=asked, headers=headers)
        content: Any = said.content
        passed = {name: value for name, value in said.headers.items() if name in ("location", "retry-after")}
        if request.method == "POST" and path.startswith(self._paths) and said.is_success:
            changed = await self._changes.of(json.loads(content))
            if isinstance(changed, int):
                return Response(status_code=changed)
            content = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return Response(content, said.status_code, passed, media_type="application/json")

    async def close(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def http_proxy(
    target: str, *changes: Change, share: float = 0.3, paths: tuple[str, ...] = ("/v1/score",)
) -> AsyncGenerator[Any]:
    """A started HttpProxy and its address."""
    proxy = HttpProxy(target, _Changes(changes, share, seed=0), paths)
    route = Route("/{path:path}", proxy.answer, methods=["GET", "POST", "DELETE"])
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms pass between the pieces of an answer
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[route]), log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield proxy, f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        await proxy.close()


class GrpcProxy:
    """Passes the calls of a reward endpoint on; answers to Score may be changed."""

    def __init__(self, target: str, changes: _Changes) -> None:
        self._channel = grpc.aio.insecure_channel(target)
        self._changes = changes

    @property
    def done(self) -> Counter[str]:
        return self._changes.done

    async def describe(self, request: bytes, _: Any) -> bytes:
        return await self._channel.unary_unary("/rlforge.v1.Reward/Describe")(request)

    async def score(self, request: bytes, context: Any) -> bytes:
        said = await self._channel.unary_unary("/rlforge.v1.Reward/Score")(request)
        changed = await self._changes.of(to_json(reward_pb2.ScoreResponse.FromString(said)))
        if isinstance(changed, int):
            code = grpc.StatusCode.UNAVAILABLE if changed == 503 else grpc.StatusCode.INTERNAL
            await context.abort(code, "spoiled on the way")
        if isinstance(changed, bytes):
            return changed
        return from_json(changed, reward_pb2.ScoreResponse).SerializeToString()

    async def close(self) -> None:
        await self._channel.close()


@asynccontextmanager
async def grpc_proxy(target: str, *changes: Change, share: float = 0.3) -> AsyncGenerator[Any]:
    """A started GrpcProxy and its address."""
    proxy = GrpcProxy(target.removeprefix("grpc://"), _Changes(changes, share, seed=0))
    calls = {"Describe": proxy.describe, "Score": proxy.score}
    handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rlforge.v1.Reward", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield proxy, f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)
        await proxy.close()


# --- what may become of an answer -------------------------------------------------------------------------------


async def late(answer: Any) -> Any:
    """Other values, later than anybody waits for them."""
    await asyncio.sleep(0.6)
    return {**answer, "scores": [{**score, "scored": {"value": 99.0}} for score in answer["scores"]]}


def another_step(answer: Any) -> Any:
    """The answer to a step that nobody took, worth more."""
    return {**answer, "step": int(answer["step"]) + 1, "reward": 99.0}


def error_500(_: Any) -> int:
    return 500


def unavailable_503(_: Any) -> int:
    return 503


def not_json(_: Any) -> bytes:
    return b"<html>502 Bad Gateway</html>"


def cut_off(answer: Any) -> bytes:
    return json.dumps(answer).encode()[:-9]


def wrong_ids(answer: Any) -> Any:
    return {**answer, "scores": [{**score, "id": f"{score['id']}-other"} for score in answer["scores"]]}


def duplicated(answer: Any) -> Any:
    """Every score again, with another value behind the first."""
    return {**answer, "scores": [*answer["scores"], *({**s, "scored": {"value": 99.0}} for s in answer["scores"])]}


def some_missing(answer: Any) -> Any:
    return {**answer, "scores": answer["scores"][::2]}


def somebody_elses(answer: Any) -> Any:
    return {**answer, "scores": [*answer["scores"], {"id": "stranger", "scored": {"value": 99.0}}]}


def not_finite(answer: Any) -> Any:
    return {**answer, "scores": [{**score, "scored": {"value": "NaN"}} for score in answer["scores"]]}
