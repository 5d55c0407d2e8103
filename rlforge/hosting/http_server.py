"""Environments and reward endpoints as HTTP/JSON: the messages of gRPC, OpenAPI at /openapi.json, /healthz."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import uvicorn
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rlforge.deadlines import deadline
from rlforge.errors import DataError, EndpointBusy, EndpointRefused, RlforgeError, boundary
from rlforge.hosting.access import Access, ServerTls
from rlforge.hosting.faults import TooLong, fault_of
from rlforge.hosting.http_worlds import HttpWorlds
from rlforge.hosting.judging import Judging
from rlforge.hosting.openapi import openapi
from rlforge.hosting.worlds import Worlds
from rlforge.transports.certificates import read_pem
from rlforge.transports.http import KEY, TIMEOUT, WORLDS
from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import environment_pb2, reward_pb2
from rlforge.wire.rollouts import encode_task
from rlforge.wire.scores import encode_scorer_spec
from rlforge.wire.worlds import encode_spec

Answer: TypeAlias = Callable[[Request, bytes], Awaitable[Response]]

SCORE_TIMEOUT_S = 60.0
"""Seconds a scoring request may take where the caller does not say."""
START_TIMEOUT_S = 10.0
MOST_TASKS = 1000
"""Tasks in one answer at most."""


class HttpServer:
    """An HTTP server of one environment or one reward endpoint."""

    def __init__(self, served: Worlds | Judging, access: Access, tls: ServerTls | None, max_message_bytes: int) -> None:
        self._served = served
        self._access = access
        self._tls = tls
        self._max_message_bytes = max_message_bytes
        self._named = HttpWorlds(served) if isinstance(served, Worlds) else None
        self._tasks: list[asyncio.Task[None]] = []
        self._uvicorn: _Uvicorn | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port it is. Raises OSError when the address cannot be had, ConfigError for a bad certificate."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._uvicorn = _Uvicorn(uvicorn.Config(self._app(), **_settings(self._tls)))
        listening = socket.create_server((host, port), family=family, backlog=2048)
        # asyncio leaves Nagle's 40 ms between the two pieces of an answer on sockets that it did not make
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tasks.append(asyncio.create_task(self._uvicorn.serve(sockets=[listening])))
        async with deadline(START_TIMEOUT_S, f"an HTTP server to listen on {host}:{port}"):
            await self._uvicorn.listening.wait()
        if self._named is not None:
            self._tasks.append(asyncio.create_task(self._named.watch()))
        return int(listening.getsockname()[1])

    async def drain(self, within_s: float) -> None:
        """Take nothing new; let what is under way end within `within_s` seconds, then stop."""
        await self._served.drain(within_s)
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        for watching in self._tasks[1:]:
            watching.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _app(self) -> Starlette:
        health = Route("/healthz", self._health, methods=["GET"])
        routes = self._environment_routes() if self._named else self._reward_routes()
        routes["/openapi.json", "GET"] = self._openapi
        return Starlette(
            routes=[
                health,
                *(Route(path, self._guarded(answer), methods=[method]) for (path, method), answer in routes.items()),
            ]
        )

    def _guarded(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                with boundary("the server"):
                    self._access.check_token(request.headers.get("authorization", ""))
                    body = await _body(request, self._max_message_bytes)
                    self._access.check_signature(request.headers, body)
                    return await answer(request, body)
            except RlforgeError as error:
                return _told(error)

        return guarded

    async def _health(self, _request: Request) -> Response:
        draining = self._served.draining
        return JSONResponse({"status": "draining" if draining else "serving"}, 503 if draining else 200)

    async def _openapi(self, _request: Request, _body: bytes) -> Response:
        kind = "environment" if self._named else "reward"
        asked = {"token": self._access.asks_for_token, "signature": self._access.asks_for_signature}
        return JSONResponse(openapi(kind, self._served.spec.name, **asked))

    def _environment_routes(self) -> dict[tuple[str, str], Answer]:
        assert isinstance(self._served, Worlds)
        assert self._named is not None
        worlds, named = self._served, self._named

        async def describe(_request: Request, _body: bytes) -> Response:
            return _json(encode_spec(worlds.spec))

        async def tasks(request: Request, _body: bytes) -> Response:
            offset, limit = _count(request, "offset"), _count(request, "limit") or MOST_TASKS
            listed = worlds.tasks(request.query_params.get("split", ""), offset, min(limit, MOST_TASKS))
            return JSONResponse({"tasks": [to_json(encode_task(task)) async for task in listed]})

        async def start(request: Request, body: bytes) -> Response:
            action = _message(body, environment_pb2.Action)
            name, observation = await named.open(action, request.headers.get(KEY, ""))
            return _json(observation, 201, {"location": f"{WORLDS}/{name}"})

        async def step(request: Request, body: bytes) -> Response:
            return _json(await named.act(request.path_params["world"], _message(body, environment_pb2.Action)))

        async def free(request: Request, _body: bytes) -> Response:
            named.free(request.path_params["world"])
            return Response(status_code=204)

        return {
            ("/v1/environment", "GET"): describe,
            ("/v1/tasks", "GET"): tasks,
            (WORLDS, "POST"): start,
            (f"{WORLDS}/{{world}}/steps", "POST"): step,
            (f"{WORLDS}/{{world}}", "DELETE"): free,
        }

    def _reward_routes(self) -> dict[tuple[str, str], Answer]:
        assert isinstance(self._served, Judging)
        judging = self._served

        async def describe(_request: Request, _body: bytes) -> Response:
            return _json(encode_scorer_spec(judging.spec))

        async def score(request: Request, body: bytes) -> Response:
            return _json(await judging.score(_message(body, reward_pb2.ScoreRequest), _timeout_s(request)))

        return {("/v1/reward", "GET"): describe, ("/v1/score", "POST"): score}


class _Uvicorn(uvicorn.Server):
    """Runs in a loop that is not its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to whoever runs the loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _settings(tls: ServerTls | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "ws": "none",
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": 1,
        "server_header": False,
    }
    if tls is None:
        return settings
    for file in filter(None, (tls.certificate, tls.key, tls.client_ca)):
        read_pem(file)  # says which one cannot be read
    settings |= {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    if tls.client_ca:
        settings |= {"ssl_ca_certs": tls.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return settings


async def _body(request: Request, most: int) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > most:
            raise TooLong(f"the request is longer than {most} bytes; serve with a larger max_message_bytes")
    return bytes(received)


def _message(body: bytes, kind: Any) -> Any:
    try:
        data = json.loads(body)
    except ValueError as error:
        raise DataError(f"the request is no JSON: {error}") from error
    return from_json(data, kind)


def _json(message: Message, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(to_json(message), status, headers)


def _told(error: RlforgeError) -> Response:
    """The answer that says what went wrong."""
    fault = fault_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, EndpointBusy):
        headers = {
            "retry-after": str(max(math.ceil(error.retry_after_s), 1)),
            "retry-after-ms": str(int(error.retry_after_s * 1000)),
        }
    content = {"kind": fault.kind, "message": str(error), "retryable": fault.retryable}
    return JSONResponse({"error": content}, fault.http, headers)


def _count(request: Request, name: str) -> int:
    said = request.query_params.get(name, "0")
    if not said.isdigit():
        raise EndpointRefused(f"{name}={said!r} is no count")
    return int(said)


def _timeout_s(request: Request) -> float:
    said = request.headers.get(TIMEOUT, "")
    return float(said) if said.replace(".", "", 1).isdigit() and float(said) > 0 else SCORE_TIMEOUT_S
