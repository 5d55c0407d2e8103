"""Environments and reward endpoints as gRPC services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rlforge.errors import DataError, DeadlineExceeded, EndpointBusy, RlforgeError, boundary
from rlforge.hosting.access import Access, ServerTls
from rlforge.hosting.faults import NotAllowed, fault_of
from rlforge.hosting.judging import Judging
from rlforge.hosting.worlds import Worlds
from rlforge.transports.certificates import read_pem
from rlforge.transports.grpc_status import END, RETRY_AFTER, SHOWN_CHARACTERS
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2
from rlforge.wire.rollouts import encode_task
from rlforge.wire.scores import encode_scorer_spec
from rlforge.wire.worlds import encode_spec

ENVIRONMENT = "rlforge.v1.Environment"
REWARD = "rlforge.v1.Reward"
HEALTH = "grpc.health.v1.Health"
SCORE_TIMEOUT_S = 60.0
"""Seconds a scoring request may take where the caller sets no deadline."""
KEEPALIVE_S = 30.0
"""Seconds of silence after which a client is asked for a sign of life: its machine may be gone."""
PING_TIMEOUT_S = 60.0
"""Seconds it has to give one before its worlds are freed: behind a long message on a slow line it takes its time."""


class GrpcServer:
    """A gRPC server of one environment or one reward endpoint, with health and reflection."""

    def __init__(self, served: Worlds | Judging, access: Access, tls: ServerTls | None, max_message_bytes: int) -> None:
        self._served = served
        self._server = grpc.aio.server(interceptors=[_Gate(access)], options=_options(max_message_bytes))
        self._health: Any = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        self._credentials = None if tls is None else _credentials(tls)
        self._name = ENVIRONMENT if isinstance(served, Worlds) else REWARD

    async def start(self, host: str, port: int) -> int:
        """Listen; the port it is. Raises OSError when the address cannot be had."""
        served = self._served
        handlers = environment_handlers(served) if isinstance(served, Worlds) else reward_handlers(served)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self._name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((self._name, HEALTH, reflection.SERVICE_NAME), self._server)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = (
                self._server.add_insecure_port(where)
                if self._credentials is None
                else self._server.add_secure_port(where, self._credentials)
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {where}: {error}") from error
        await self._server.start()
        for name in ("", self._name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def drain(self, within_s: float) -> None:
        """Take nothing new; let what is under way end within `within_s` seconds, then stop."""
        await self._health.enter_graceful_shutdown()
        await self._served.drain(within_s)
        await self._server.stop(grace=1.0)


class _Gate(grpc.aio.ServerInterceptor):
    """Refuses calls without the token; a health check needs none."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(f"/{HEALTH}/"):
            return handler
        metadata = dict(handler_call_details.invocation_metadata)
        try:
            self._access.check_token(metadata.get("authorization", ""))
        except NotAllowed as error:
            return _refusal(handler, error)
        return handler


def environment_handlers(worlds: Worlds) -> dict[str, Any]:
    """The calls of the service `Environment`."""

    async def describe(_request: Any, _context: Any) -> environment_pb2.EnvironmentSpec:
        return encode_spec(worlds.spec)

    async def list_tasks(request: environment_pb2.ListTasksRequest, context: Any) -> AsyncIterator[types_pb2.Task]:
        async with _told(context):
            async for task in worlds.tasks(request.split, request.offset, request.limit):
                yield encode_task(task)

    async def interact(_requests: Any, context: Any) -> None:
        async with _told(context):
            await _interact(worlds, context)

    return {
        "Describe": _unary(describe, environment_pb2.DescribeRequest, environment_pb2.EnvironmentSpec),
        "ListTasks": grpc.unary_stream_rpc_method_handler(
            list_tasks, environment_pb2.ListTasksRequest.FromString, types_pb2.Task.SerializeToString
        ),
        "Interact": grpc.stream_stream_rpc_method_handler(interact),
    }


async def _interact(worlds: Worlds, context: Any) -> None:
    """Play one world for as long as its stream lives."""
    world = worlds.admit()
    try:
        async with asyncio.timeout(None) as life:
            while (sent := await context.read()) is not END:
                action = _action(sent)
                observation = await world.act(action)
                if action.step == 0 and world.lifetime_s:
                    life.reschedule(asyncio.get_running_loop().time() + world.lifetime_s)
                await context.write(observation.SerializeToString())
                if world.over:
                    return
    except TimeoutError:
        world.free("lifetime")
        raise DeadlineExceeded(f"the world has lived its {world.lifetime_s:g} s") from None
    finally:
        world.free("left")


def _action(sent: bytes) -> environment_pb2.Action:
    try:
        return environment_pb2.Action.FromString(sent)
    except DecodeError as error:
        raise DataError(f"this is no Action: {error}") from error


def reward_handlers(judging: Judging) -> dict[str, Any]:
    """The calls of the service `Reward`."""

    async def describe(_request: Any, _context: Any) -> reward_pb2.ScorerSpec:
        return encode_scorer_spec(judging.spec)

    async def score(request: reward_pb2.ScoreRequest, context: Any) -> reward_pb2.ScoreResponse:
        async with _told(context):
            return await judging.score(request, context.time_remaining() or SCORE_TIMEOUT_S)

    async def score_stream(
        requests: AsyncIterator[reward_pb2.ScoreItem], context: Any
    ) -> AsyncIterator[types_pb2.Score]:
        async with _told(context):
            async for score in judging.stream(requests, context.time_remaining() or SCORE_TIMEOUT_S):
                yield score

    return {
        "Describe": _unary(describe, reward_pb2.DescribeScorerRequest, reward_pb2.ScorerSpec),
        "Score": _unary(score, reward_pb2.ScoreRequest, reward_pb2.ScoreResponse),
        "ScoreStream": grpc.stream_stream_rpc_method_handler(
            score_stream, _score_item, types_pb2.Score.SerializeToString
        ),
    }


def _score_item(sent: bytes) -> reward_pb2.ScoreItem:
    try:
        return reward_pb2.ScoreItem.FromString(sent)
    except DecodeError as error:
        raise DataError(f"this is no ScoreItem: {error}") from error


def _unary(behaviour: Any, request: Any, answer: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(behaviour, request.FromString, answer.SerializeToString)


@asynccontextmanager
async def _told(context: Any) -> AsyncGenerator[None]:
    """End the call with the status that says what went wrong."""
    try:
        with boundary("the server"):
            yield
    except RlforgeError as error:
        await _abort(context, error)


async def _abort(context: Any, error: RlforgeError) -> None:
    advice: tuple[tuple[str, str], ...] = ()
    if isinstance(error, EndpointBusy):
        advice = ((RETRY_AFTER, str(max(int(error.retry_after_s * 1000), 1))),)
    await context.abort(grpc.StatusCode[fault_of(error).status], str(error)[:SHOWN_CHARACTERS], advice)


def _refusal(handler: Any, error: NotAllowed) -> Any:
    """A handler of the same shape that refuses."""

    async def refuse(_request: Any, context: Any) -> None:
        await _abort(context, error)

    async def refuse_stream(_request: Any, context: Any) -> AsyncIterator[bytes]:
        await _abort(context, error)
        yield b""

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", int(PING_TIMEOUT_S * 1000)),  # the one that newer gRPC goes by
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),  # an address in use is an error, not a second server beside the first
    ]


def _credentials(tls: ServerTls) -> Any:
    return grpc.ssl_server_credentials(
        [(read_pem(tls.key), read_pem(tls.certificate))],
        root_certificates=None if tls.client_ca is None else read_pem(tls.client_ca),
        require_client_auth=tls.client_ca is not None,
    )
