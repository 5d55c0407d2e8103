"""An OpenAI-compatible server on loopback that judges additions, and misbehaves as a test tells it to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class JudgeServer:
    """10 for a reply that equals the reference answer, 0 for any other; `misbehave` holds what comes first instead."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.misbehave: list[Any] = []
        """A status, a status with headers, seconds to wait first, a message to answer with, or a choice as a whole."""
        self.says: Any = None
        """What every verdict is, in place of the judgement."""
        self.echoes = False
        """Whether an answer is no completion but what was sent, the key with it."""
        self.address = ""

    async def answer(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization", ""))
        if self.echoes:
            return JSONResponse({"headers": dict(request.headers)})
        if self.misbehave:
            given = self.misbehave.pop(0)
            if isinstance(given, float):
                await asyncio.sleep(given)
                given = self._verdict(body)
            status, headers = given if isinstance(given, tuple) else (given, {})
            if isinstance(status, int):
                told = {"error": f"told so; you sent {self.keys[-1]}"}
                return JSONResponse(told, status_code=status, headers=headers)
            choice = given if isinstance(given, dict) else {"message": {"content": given}, "finish_reason": "stop"}
        else:
            choice = {"message": {"content": self._verdict(body)}, "finish_reason": "stop"}
        return JSONResponse({"choices": [choice], "usage": {"total_tokens": 100}})

    def _verdict(self, body: dict[str, Any]) -> str:
        shown = json.loads(body["messages"][1]["content"])
        right = shown["conversation"][-1]["content"] == shown.get("reference_answer")
        return json.dumps(self.says or {"reason": "compared", "score": 10 if right else 0})


@asynccontextmanager
async def judging() -> AsyncGenerator[JudgeServer]:
    """A started server, on a port of its own."""
    server = JudgeServer()
    app = Starlette(routes=[Route("/v1/chat/completions", server.answer, methods=["POST"])])
    listening = socket.create_server(("127.0.0.1", 0))  # connections wait there until the server takes them
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(running.serve(sockets=[listening]))
    server.address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    try:
        yield server
    finally:
        running.should_exit = True
        await task
