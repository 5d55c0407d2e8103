"""Environments and reward endpoints behind `grpc://` and `grpcs://`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from rlforge.deadlines import Limit
from rlforge.errors import DataError, DeadlineExceeded, EndpointBroken, EndpointUnavailable
from rlforge.transports.config import EndpointConfig
from rlforge.transports.grpc_channel import Channels
from rlforge.transports.grpc_status import END, from_status
from rlforge.transports.remote import RemoteEnvironment
from rlforge.types import EnvironmentSpec, Message, Observation, Rollout, Score, ScorerSpec, Task, WorldStart
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.pb import reward_pb2, types_pb2
from rlforge.wire.rollouts import decode_task
from rlforge.wire.scores import decode_scorer_spec, decode_scores, encode_score_request
from rlforge.wire.worlds import decode_observation, decode_spec, encode_reply, encode_start

ENVIRONMENT = "/rlforge.v1.Environment"
REWARD = "/rlforge.v1.Reward"


class Grpc:
    """The transport of `grpc://` and `grpcs://`."""

    def __init__(self, config: EndpointConfig) -> None:
        self._channels = Channels(config)

    def environment(self) -> GrpcEnvironment:
        """The environment at the address."""
        return GrpcEnvironment(self._channels)

    def reward(self) -> GrpcReward:
        """The reward endpoint at the address."""
        return GrpcReward(self._channels)


class GrpcEnvironment(RemoteEnvironment):
    """An environment over gRPC: every world is a stream of its own."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels.config)
        self.channels = channels

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split in their order; each must come within `connect_timeout_s`."""
        channel = await self.channels.ready()
        call = channel.unary_stream(
            f"{ENVIRONMENT}/ListTasks", pb.ListTasksRequest.SerializeToString, types_pb2.Task.FromString
        )(pb.ListTasksRequest(split=split, offset=offset, limit=limit), metadata=self.channels.metadata)
        try:
            while True:
                async with asking(self.channels, f"listing tasks of '{split}'", self.config.connect_timeout_s):
                    task = await call.read()
                    if task is END:
                        return
                    decoded = decode_task(task)
                yield decoded
        finally:
            call.cancel()

    async def _describe(self) -> EnvironmentSpec:
        sent = await _unary(self.channels, f"{ENVIRONMENT}/Describe", pb.DescribeRequest(), pb.EnvironmentSpec)
        return decode_spec(sent)

    async def _open(self, start: WorldStart) -> tuple[GrpcWorld, Observation]:
        channel = await self.channels.ready()
        call = channel.stream_stream(f"{ENVIRONMENT}/Interact")(
            timeout=start.lifetime_s or None, metadata=self.channels.metadata
        )
        world = GrpcWorld(self, call, start.rollout_id or start.task.id, self.step_timeout_s(start))
        return world, await world.begin(start)

    async def _close(self) -> None:
        await self.channels.close()


class Outbox:
    """Sends a world's actions, one after another, from a task of its own.

    That task goes on when every world that has its answer has done so: actions leave in bursts, which spares both sides
    half of what they spend on waking up.
    """

    __slots__ = ("_call", "_next", "_task", "_wanted")

    def __init__(self, call: Any) -> None:
        self._call = call
        self._next = b""
        self._wanted: asyncio.Future[bytes] | None = None
        self._task = asyncio.create_task(self._send())

    def put(self, action: bytes) -> None:
        """The next action; the one before it was answered."""
        if self._wanted is None or self._wanted.done():
            self._next = action
        else:
            self._wanted.set_result(action)

    def close(self) -> None:
        """Send no more. May be called twice."""
        self._task.cancel()

    async def _send(self) -> None:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # the stream has ended: reading says why
            while True:
                await self._call.write(await self._action())

    async def _action(self) -> bytes:
        if said := self._next:
            self._next = b""
            return said
        self._wanted = asyncio.get_running_loop().create_future()
        return await self._wanted


class GrpcWorld:
    """One stream: the world lives as long as it does."""

    __slots__ = ("_call", "_environment", "_outbox", "_step", "_timeout_s", "_who")

    def __init__(self, environment: GrpcEnvironment, call: Any, who: str, timeout_s: float) -> None:
        self._environment: GrpcEnvironment | None = environment
        self._call = call
        self._outbox = Outbox(call)
        self._who = who
        self._timeout_s = timeout_s
        self._step = 0

    async def begin(self, start: WorldStart) -> Observation:
        """The first observation. On a fault the stream is gone; its place is given back by who opened it."""
        try:
            return await self._exchange(encode_start(start))
        except BaseException:
            self._environment = None
            self._end()
            raise

    async def step(self, reply: Message) -> Observation:
        """What the world shows after the model's reply. Raises EndpointError or DeadlineExceeded; then it is gone."""
        self._step += 1
        try:
            observation = await self._exchange(encode_reply(self._step, reply))
        except BaseException:
            await self.close()
            raise
        if observation.over:
            self._give_back()
        return observation

    async def close(self) -> None:
        """End the stream, which frees the world. May be called twice."""
        self._end()
        self._give_back()

    def _end(self) -> None:
        self._outbox.close()
        self._call.cancel()

    def _give_back(self) -> None:
        if self._environment is not None:
            self._environment.freed()
            self._environment = None

    async def _exchange(self, action: pb.Action) -> Observation:
        if self._environment is None:
            raise EndpointUnavailable(f"step {self._step} of the world of {self._who}: the world is gone")
        channels = self._environment.channels
        async with asking(channels, lambda: f"step {action.step} of the world of {self._who}", self._timeout_s):
            self._outbox.put(action.SerializeToString())
            while (answer := await self._call.read()) is not END:
                observation = pb.Observation.FromString(answer)
                if observation.step == action.step:
                    return decode_observation(observation)
                if observation.step > action.step:
                    raise EndpointBroken(
                        f"step {action.step} of the world of {self._who} at {channels.config.address} was answered "
                        f"as step {observation.step}; an observation carries the number of the step it answers"
                    )
            raise EndpointBroken(
                f"the stream of the world of {self._who} at {channels.config.address} ended without an answer to "
                f"step {action.step}"
            )


class GrpcReward:
    """A reward endpoint over gRPC."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def describe(self) -> ScorerSpec:
        """What it is. Raises EndpointError or DeadlineExceeded."""
        request = reward_pb2.DescribeScorerRequest()
        return decode_scorer_spec(await _unary(self._channels, f"{REWARD}/Describe", request, reward_pb2.ScorerSpec))

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        """Scores by item id: the first that came for each. Raises EndpointError or DeadlineExceeded."""
        request = encode_score_request(items, request_id)
        doing = f"scoring {len(items)} rollouts"
        answer = await _unary(self._channels, f"{REWARD}/Score", request, reward_pb2.ScoreResponse, doing, timeout_s)
        return decode_scores(answer, self._channels.config.address)

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self._channels.close()


async def _unary(
    channels: Channels, method: str, request: Any, answer: Any, doing: str = "", timeout_s: float = 0.0
) -> Any:
    channel = await channels.ready()
    ask = channel.unary_unary(method)
    wait_s = timeout_s or channels.config.connect_timeout_s
    async with asking(channels, doing or f"asking {method[1:]}", wait_s):
        said = await ask(request.SerializeToString(), timeout=wait_s, metadata=channels.metadata)
        return answer.FromString(said)


class asking(Limit):  # noqa: N801 (it reads as the function it stands for)
    """Turn what an RPC raises in the body into our errors; wait no longer than `timeout_s` seconds.

    A class, because a generator would cost twice as much in every step of every world.
    """

    __slots__ = ("_channels", "_doing")

    def __init__(self, channels: Channels, doing: str | Callable[[], str], timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._channels = channels
        self._doing = doing

    async def __aenter__(self) -> None:
        self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late = self.over(kind)
        if late or isinstance(error, TimeoutError):
            raise DeadlineExceeded(f"{self._what}: no answer within {self.seconds:g} s") from error
        if isinstance(error, grpc.aio.AioRpcError):
            raise from_status(error, self._what, self._channels.secrets) from None
        if isinstance(error, DecodeError | DataError):
            raise EndpointBroken(f"{self._what}: the answer makes no sense: {error}") from error

    @property
    def _what(self) -> str:
        doing = self._doing if isinstance(self._doing, str) else self._doing()
        return f"{doing} at {self._channels.config.address}"
