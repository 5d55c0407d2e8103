"""gRPC below the client that training uses: messages or bytes as they are, steps out of order, streams cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from rlforge.checks.fault import Fault
from rlforge.checks.place import Place
from rlforge.deadlines import deadline
from rlforge.errors import DeadlineExceeded
from rlforge.transports.certificates import read_pem
from rlforge.transports.grpc_sending import send
from rlforge.transports.grpc_status import END
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2

_ENVIRONMENT = "/rlforge.v1.Environment"
_REWARD = "/rlforge.v1.Reward"
_FAREWELL_S = 0.5
"""Seconds the other side has to end a stream that we ended."""


class GrpcLine:
    """A connection to an endpoint that no other shares; speaks both services."""

    bound = True
    """A world lives no longer than its stream."""
    plain = False

    def __init__(self, place: Place) -> None:
        self.place = place
        self._channel = _channel(place)
        self._metadata = (("authorization", f"Bearer {place.token}"),) if place.token is not None else ()

    async def describe(self) -> environment_pb2.EnvironmentSpec:
        """What Describe of an environment says."""
        return await self._ask(f"{_ENVIRONMENT}/Describe", b"", environment_pb2.EnvironmentSpec)

    async def describe_scorer(self) -> reward_pb2.ScorerSpec:
        """What Describe of a reward endpoint says."""
        return await self._ask(f"{_REWARD}/Describe", b"", reward_pb2.ScorerSpec)

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> list[types_pb2.Task]:
        """What ListTasks says."""
        call: Any = self._channel.unary_stream(
            f"{_ENVIRONMENT}/ListTasks", request_serializer=_bytes, response_deserializer=types_pb2.Task.FromString
        )(
            environment_pb2.ListTasksRequest(split=split, offset=offset, limit=limit),
            metadata=self._metadata,
            timeout=self.place.patience_s,
        )
        try:
            return [task async for task in call]
        except grpc.aio.AioRpcError as error:
            raise _fault(error, f"ListTasks of '{split}'") from error

    def world(self, timeout_s: float | None = None) -> GrpcStream[environment_pb2.Observation]:
        """A stream for one world; nothing has been sent on it."""
        call = self._stream(f"{_ENVIRONMENT}/Interact", environment_pb2.Observation, timeout_s)
        return GrpcStream(call, self.place.patience_s)

    async def score(self, request: reward_pb2.ScoreRequest | bytes, timeout_s: float = 0) -> reward_pb2.ScoreResponse:
        """Judge a batch, or see what bytes that are none lead to."""
        return await self._ask(f"{_REWARD}/Score", request, reward_pb2.ScoreResponse, timeout_s)

    async def score_stream(self, items: Sequence[reward_pb2.ScoreItem]) -> list[types_pb2.Score]:
        """All scores that come back for items sent one after the other, until the server ends the stream."""
        stream: GrpcStream[types_pb2.Score] = GrpcStream(
            self._stream(f"{_REWARD}/ScoreStream", types_pb2.Score, None), self.place.patience_s
        )
        try:
            for item in items:
                await stream.send(item)
            await stream.done_sending()
            return await stream.rest()
        finally:
            await stream.free()

    async def healthy(self) -> str:
        """What `grpc.health.v1` says of the server as a whole."""
        answer = await self._ask("/grpc.health.v1.Health/Check", b"", health_pb2.HealthCheckResponse)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    async def close(self) -> None:
        """Hang up at once, whatever is under way."""
        await self._channel.close(grace=None)

    async def _ask(self, method: str, request: Message | bytes, answer: Any, timeout_s: float = 0) -> Any:
        patience_s = timeout_s or self.place.patience_s
        call: Any = self._channel.unary_unary(
            method, request_serializer=_bytes, response_deserializer=answer.FromString
        )(request, metadata=self._metadata, timeout=patience_s)
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _fault(error, method.rpartition("/")[2]) from error

    def _stream(self, method: str, answer: Any, timeout_s: float | None) -> Any:
        opened: Any = self._channel.stream_stream(method, response_deserializer=answer.FromString)
        return opened(metadata=self._metadata, timeout=timeout_s)


Answer = TypeVar("Answer", bound=Message)


class GrpcStream(Generic[Answer]):
    """One stream: what is sent, what arrives, and how it ends."""

    def __init__(self, call: Any, patience_s: float) -> None:
        self._call = call
        self._patience_s = patience_s
        self._arrived: asyncio.Queue[Answer | Fault] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def send(self, message: Message | bytes) -> None:
        """Send a message, or bytes that are none. What the server makes of it arrives with the next answer."""
        async with deadline(self._patience_s, "the server to take a message"):
            await send(self._call, _bytes(message))

    async def answer(self, waiting_for: str = "an answer", within_s: float = 0) -> Answer:
        """The next message. Raises Fault when the stream ended instead, DeadlineExceeded when nothing came."""
        async with deadline(within_s or self._patience_s, waiting_for):
            arrived = await self._arrived.get()
        if isinstance(arrived, Fault):
            self._arrived.put_nowait(arrived)
            raise Fault(arrived.code, arrived.said, waiting_for, retry_after=arrived.retry_after)
        return arrived

    async def ask(self, message: Message | bytes, waiting_for: str = "an answer") -> Answer:
        """Send, and wait for what comes back."""
        await self.send(message)
        return await self.answer(waiting_for)

    async def rest(self) -> list[Answer]:
        """Everything that still comes before the server ends the stream as it should."""
        answers: list[Answer] = []
        while True:
            try:
                answers.append(await self.answer("the stream to end"))
            except Fault as end:
                if end.code == "OK":
                    return answers
                raise

    async def ending(self, within_s: float = 0) -> Fault:
        """How the stream ends, `OK` or a status; whatever still arrives before is dropped."""
        while True:
            try:
                await self.answer("the server to end the stream", within_s)
            except Fault as end:
                return end

    async def quiet(self, seconds: float) -> bool:
        """Whether nothing arrives for so long."""
        with suppress(DeadlineExceeded, Fault):
            await self.answer(within_s=seconds)
            return False
        return True

    async def done_sending(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def leave(self) -> None:
        """End the stream as a client does that has finished, and wait a little for the server to do the same."""
        await self.done_sending()
        with suppress(DeadlineExceeded):
            await self.ending(_FAREWELL_S)
        await self.free()

    async def free(self) -> None:
        """Cancel the stream at once. May be called twice."""
        self._call.cancel()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                arrived = await self._call.read()
                if arrived is END:
                    self._arrived.put_nowait(Fault("OK", "the server ended the stream"))
                    return
                self._arrived.put_nowait(cast(Answer, arrived))
        except grpc.aio.AioRpcError as error:
            self._arrived.put_nowait(_fault(error))


def _bytes(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _fault(error: grpc.aio.AioRpcError, doing: str = "") -> Fault:
    trailing = {str(key) for key, _ in error.trailing_metadata() or ()}
    return Fault(error.code().name, error.details() or "", doing, retry_after="retry-after-ms" in trailing)


def _files(place: Place) -> tuple[str | None, str | None, str | None]:
    return place.ca, place.key, place.certificate


def _channel(place: Place) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
    ]
    if not place.secure:
        return grpc.aio.insecure_channel(place.authority, options)
    options.append(("grpc.ssl_target_name_override", place.server_name))
    credentials = grpc.ssl_channel_credentials(*(read_pem(file) if file else None for file in _files(place)))
    return grpc.aio.secure_channel(place.authority, credentials, options)
