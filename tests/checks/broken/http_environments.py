"""Environment servers in plain Starlette: one that is right, and one for each of some ways to be wrong."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import environment_pb2 as pb
from tests.checks.broken import environments as over_grpc
from tests.checks.broken.environments import World


class RightOverHttp:
    """Breaks nothing that is looked at here. Each way to be wrong overrides one of its methods."""

    token = ""

    def __init__(self) -> None:
        self.worlds: dict[str, World] = {}
        self.last: dict[str, pb.Observation] = {}

    # --- the calls

    async def describe(self, request: Request) -> Response:
        return JSONResponse(to_json(over_grpc.Right().spec()))

    async def tasks(self, request: Request) -> Response:
        offset, limit = (int(request.query_params.get(name, "0")) for name in ("offset", "limit"))
        listed = over_grpc.Right().tasks()[offset : offset + limit if limit else None]
        return JSONResponse({"tasks": [MessageToDict(task, preserving_proto_field_name=True) for task in listed]})

    async def start(self, request: Request) -> Response:
        name = request.headers.get("idempotency-key") or uuid.uuid4().hex
        if name not in self.worlds:
            self.worlds[name] = self.world(from_json(await request.json(), pb.Action).start)
            self.last[name] = self.worlds[name].shown()
        return JSONResponse(to_json(self.last[name]), 201, {"location": f"/v1/worlds/{name}"})

    async def step(self, request: Request) -> Response:
        name, action = request.path_params["world"], from_json(await request.json(), pb.Action)
        if name not in self.worlds:
            return JSONResponse({"error": {"message": "no such world"}}, 404)
        if self.is_new(action, self.last[name]):
            observation = self.worlds[name].step("".join(part.text for part in action.message.content))
            observation.step = action.step
            self.last[name] = observation
        return JSONResponse(to_json(self.last[name]))

    async def free(self, request: Request) -> Response:
        self.worlds.pop(request.path_params["world"], None)
        return Response(status_code=204)

    # --- what they are made of

    def world(self, start: pb.WorldStart) -> World:
        return World(start)

    def is_new(self, action: pb.Action, last: pb.Observation) -> bool:
        return action.step != last.step

    def lets_in(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def app(self) -> Starlette:
        calls = {
            ("GET", "/v1/environment"): self.describe,
            ("GET", "/v1/tasks"): self.tasks,
            ("POST", "/v1/worlds"): self.start,
            ("POST", "/v1/worlds/{world}/steps"): self.step,
            ("DELETE", "/v1/worlds/{world}"): self.free,
        }
        routes = [Route(path, self._guarded(call), methods=[method]) for (method, path), call in calls.items()]
        return Starlette(routes=routes)

    def _guarded(self, call: Any) -> Any:
        async def guarded(request: Request) -> Response:
            if not self.lets_in(request):
                return JSONResponse({"error": {"message": "the token is missing or wrong"}}, 401)
            return await call(request)

        return guarded


class SharesItsState(RightOverHttp):
    """What is added in one world shows in those opened while it lives."""

    def world(self, start: pb.WorldStart) -> World:
        world = super().world(start)
        others = list(self.worlds.values())
        move = world.step

        def step(text: str) -> pb.Observation:
            for other in others:
                other.total += int(text) if text.isdigit() else 0
            return move(text)

        world.step = step  # type: ignore[method-assign]
        return world


class StepsAgain(RightOverHttp):
    def is_new(self, action: pb.Action, last: pb.Observation) -> bool:
        return action.step > 0


class LetsAnyoneIn(RightOverHttp):
    def lets_in(self, request: Request) -> bool:
        return True


class IgnoresTheSeed(RightOverHttp):
    def world(self, start: pb.WorldStart) -> World:
        world = super().world(start)
        world.total = uuid.uuid4().int % 10**9
        return world


BROKEN: dict[type[RightOverHttp], str] = {
    SharesItsState: "worlds do not leak into one another",
    StepsAgain: "a resent step is answered from memory",
    LetsAnyoneIn: "demands its token",
    IgnoresTheSeed: "same seed, same world",
}
"""Every way to be wrong, and the property it lacks."""


@asynccontextmanager
async def listening_over_http(server: RightOverHttp) -> AsyncGenerator[str]:
    """A server on a port of its own; yields its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms pass between the pieces of an answer
    running = uvicorn.Server(uvicorn.Config(server.app(), log_level="error", lifespan="off"))
    task = asyncio.create_task(running.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.should_exit = True
        await task
