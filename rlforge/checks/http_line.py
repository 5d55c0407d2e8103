"""HTTP below the client that training uses: bodies as they are, steps out of order, requests broken off."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx
from google.protobuf.message import Message

from rlforge.checks.fault import Fault, code_of_http
from rlforge.checks.place import Place
from rlforge.deadlines import deadline
from rlforge.errors import DataError, DeadlineExceeded
from rlforge.transports.signing import SIGNATURE, TIMESTAMP, signature
from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2
from rlforge.wire.plain_scores import read_scores
from rlforge.wire.scores import encode_score
from rlforge.wire.version import PROTOCOL_VERSION

_MOST_CONNECTIONS = 256
_GONE = ("FAILED_PRECONDITION", "NOT_FOUND", "DEADLINE_EXCEEDED")
"""What a step is answered with when its world is no more."""
_BEYOND = types_pb2.Message(role="assistant")


class HttpLine:
    """Connections to an endpoint that no other shares; speaks for both kinds of endpoint."""

    bound = False
    """No connection says whether the client of a world lives."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.plain = False
        self._client = httpx.AsyncClient(
            base_url=f"{place.scheme}://{place.authority}",
            verify=_context(place) if place.secure else True,
            timeout=None,
            trust_env=False,
            limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS),
        )

    async def describe(self) -> environment_pb2.EnvironmentSpec:
        """What the environment says it is."""
        return _read(await self.ask("GET", "/v1/environment"), environment_pb2.EnvironmentSpec)

    async def describe_scorer(self) -> reward_pb2.ScorerSpec:
        """What the reward endpoint says it is; one that only scores is called by its address."""
        try:
            return _read(await self.ask("GET", "/v1/reward"), reward_pb2.ScorerSpec)
        except Fault as fault:
            if fault.code not in ("NOT_FOUND", "HTTP 405", "UNIMPLEMENTED"):
                raise
            self.plain = True
            return reward_pb2.ScorerSpec(name=self.place.authority, protocol_version=PROTOCOL_VERSION)

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> list[types_pb2.Task]:
        """Tasks of a split."""
        listed: list[types_pb2.Task] = []
        while page := await self._page(split, offset + len(listed), limit - len(listed) if limit else 0):
            listed += page
            if limit and len(listed) >= limit:
                break
        return listed

    def world(self, timeout_s: float | None = None) -> HttpWorld:
        """A world to be; nothing has been sent."""
        return HttpWorld(self)

    async def score(self, request: reward_pb2.ScoreRequest | bytes, timeout_s: float = 0) -> reward_pb2.ScoreResponse:
        """Judge a batch, or see what bytes that are none lead to."""
        answer = await self.ask("POST", "/v1/score", request, timeout_s=timeout_s)
        if isinstance(answer, dict) and "scores" in answer:
            return _read(answer, reward_pb2.ScoreResponse)
        items = [] if isinstance(request, bytes) else [item.id for item in request.items]
        return _plain(answer, items)

    async def score_stream(self, items: Sequence[reward_pb2.ScoreItem]) -> list[types_pb2.Score]:
        """There is no such thing over HTTP."""
        raise Fault("UNIMPLEMENTED", "scores come in streams over gRPC only")

    async def healthy(self) -> str:
        """What `GET /healthz` says."""
        await self.ask("GET", "/healthz")
        return "SERVING"

    async def close(self) -> None:
        """Hang up at once."""
        await self._client.aclose()

    async def _page(self, split: str, offset: int, limit: int) -> list[types_pb2.Task]:
        query = httpx.QueryParams(split=split, offset=offset, limit=limit)
        answer = await self.ask("GET", f"/v1/tasks?{query}")
        listed = answer.get("tasks", []) if isinstance(answer, dict) else [answer]
        return [_read(task, types_pb2.Task) for task in listed]

    async def ask(
        self,
        method: str,
        path: str,
        body: Message | bytes = b"",
        *,
        timeout_s: float = 0,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """What the JSON of a good answer says. Raises Fault, DeadlineExceeded."""
        sent = body if isinstance(body, bytes) else json.dumps(to_json(body)).encode()
        patience_s = timeout_s or self.place.patience_s
        try:
            async with deadline(patience_s, f"an answer to {method} {path}"):
                answer = await self._client.request(
                    method,
                    path,
                    content=sent,
                    headers=self._proof(sent, patience_s) | (headers or {}),
                    extensions={"sni_hostname": self.place.server_name} if self.place.secure else {},
                )
        except httpx.HTTPError as error:
            raise Fault("UNAVAILABLE", f"{type(error).__name__}: {error}", f"{method} {path}") from error
        return _said(answer, f"{method} {path}")

    def _proof(self, body: bytes, timeout_s: float) -> dict[str, str]:
        place = self.place
        proof = {"content-type": "application/json", "x-rlforge-timeout-s": f"{timeout_s:g}"}
        if place.token is not None:
            proof["authorization"] = f"Bearer {place.token}".strip()  # an empty one would be no header at all
        if place.signing_key is not None:
            stamp = str(int(time.time()))
            proof |= {TIMESTAMP: stamp, SIGNATURE: signature(place.signing_key, stamp, body)}
        return proof


class HttpWorld:
    """One world, found by its name; every step is a request."""

    def __init__(self, line: HttpLine) -> None:
        self._line = line
        self._name = uuid.uuid4().hex
        self._started = False
        self._asking: asyncio.Task[Any] | None = None
        self._step = 0
        self._over = False

    async def send(self, message: Message | bytes) -> None:
        """Send an action, or bytes that are none, and wait for nothing."""
        path = f"/v1/worlds/{self._name}/steps" if self._started else "/v1/worlds"
        headers = {} if self._started else {"idempotency-key": self._name}
        self._started = True
        self._asking = asyncio.create_task(self._line.ask("POST", path, message, headers=headers))
        await asyncio.sleep(0)

    async def answer(self, waiting_for: str = "an answer", within_s: float = 0) -> environment_pb2.Observation:
        """The observation of the step that was sent. Raises Fault, DeadlineExceeded."""
        assert self._asking is not None, "send comes before answer"
        async with deadline(within_s or self._line.place.patience_s, waiting_for):
            try:
                observation = _read(await self._asking, environment_pb2.Observation)
            except Fault as fault:
                raise Fault(fault.code, fault.said, waiting_for, retry_after=fault.retry_after) from fault
        self._step = observation.step
        self._over = observation.terminated or observation.truncated
        return observation

    async def ask(self, message: Message | bytes, waiting_for: str = "an answer") -> environment_pb2.Observation:
        """Send an action and wait for its observation."""
        await self.send(message)
        return await self.answer(waiting_for)

    async def quiet(self, seconds: float) -> bool:
        """Always: an answer belongs to its request."""
        return True

    async def ending(self, within_s: float = 0) -> Fault:
        """How the world has ended by then; whether it has is seen by a step beyond its last."""
        over = self._over
        await asyncio.sleep(0 if over else within_s)
        try:
            await self.ask(environment_pb2.Action(step=self._step + 1, message=_BEYOND), "the world to be gone")
        except Fault as fault:
            if fault.code in _GONE:
                return Fault("OK", fault.said) if over else Fault("DEADLINE_EXCEEDED", fault.said)
            return fault
        raise DeadlineExceeded("the world still takes steps")

    async def leave(self) -> None:
        """Say that the world is no longer needed."""
        await self.free()

    async def free(self) -> None:
        """Break off, and say that the world is no longer needed. May be called twice."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._started:
            with suppress(Fault, DeadlineExceeded):
                await self._line.ask("DELETE", f"/v1/worlds/{self._name}")


def _said(answer: httpx.Response, doing: str) -> Any:
    if answer.is_success and not answer.content:
        return {}
    try:
        said = answer.json()
    except ValueError as error:
        if answer.is_success:
            raise Fault("INTERNAL", f"the answer is no JSON: {answer.text[:80]!r}", doing) from error
        said = {"error": {"message": " ".join(answer.text.split())[:200]}}
    if answer.is_success:
        return said
    told = said.get("error", said) if isinstance(said, dict) else said
    message = told.get("message", told) if isinstance(told, dict) else told
    retry_after = "retry-after" in answer.headers or "retry-after-ms" in answer.headers
    raise Fault(code_of_http(answer.status_code), str(message), doing, retry_after=retry_after)


def _read(said: Any, kind: Any) -> Any:
    try:
        return from_json(said, kind)
    except DataError as error:
        raise Fault("INTERNAL", f"the answer makes no sense: {error}") from error


def _plain(answer: Any, items: Sequence[str]) -> reward_pb2.ScoreResponse:
    """The scores of an endpoint of a few lines: a number, an object of them, or a list."""
    try:
        scores = read_scores(answer, items, "it")
    except DataError as error:
        raise Fault("INTERNAL", f"the answer makes no sense: {error}") from error
    odd = [score.reason for score in scores.values() if score.error_kind == "malformed"]
    if odd:
        raise Fault("INTERNAL", odd[0])
    return reward_pb2.ScoreResponse(scores=[encode_score(item, score) for item, score in scores.items()])


def _context(place: Place) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=place.ca)
    if place.certificate and place.key:
        context.load_cert_chain(place.certificate, place.key)
    return context
