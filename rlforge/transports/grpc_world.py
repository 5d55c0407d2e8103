"""A world over gRPC: the stream is the world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rlforge.errors import EndpointBroken, EndpointUnavailable
from rlforge.transports.grpc_call import asking
from rlforge.transports.grpc_channel import Channels
from rlforge.transports.grpc_sending import send
from rlforge.transports.grpc_status import END
from rlforge.types import Message, Observation, WorldStart
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.worlds import decode_observation, encode_reply, encode_start

PARTING_S = 1.0
"""Seconds that a server has to end the stream of a world that is over before it is cancelled."""


class GrpcWorld:
    """One stream: the world lives as long as it does."""

    __slots__ = ("_call", "_channels", "_freed", "_outbox", "_over", "_step", "_timeout_s", "_who")

    def __init__(self, channels: Channels, call: Any, who: str, timeout_s: float, freed: Callable[[], None]) -> None:
        self._channels = channels
        self._freed: Callable[[], None] | None = freed
        self._call = call
        self._outbox = Outbox(call)
        self._who = who
        self._timeout_s = timeout_s
        self._step = 0
        self._over = False

    async def begin(self, start: WorldStart) -> Observation:
        """The first observation. On a fault the stream is gone; its place is given back by who opened it."""
        try:
            return await self._exchange(encode_start(start))
        except BaseException:
            self._freed = None
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
        if self._over:
            self._give_back()
        return observation

    async def close(self) -> None:
        """End the stream, which frees the world. May be called twice."""
        if self._over:  # its server ends it: cancelled now, a success would look like a client that went away
            self._outbox.close()
            asyncio.get_running_loop().call_later(PARTING_S, self._call.cancel)
        else:
            self._end()
        self._give_back()

    def _end(self) -> None:
        self._outbox.close()
        self._call.cancel()

    def _give_back(self) -> None:
        if self._freed is not None:
            self._freed()
            self._freed = None

    async def _exchange(self, action: pb.Action) -> Observation:
        if self._freed is None:
            raise EndpointUnavailable(f"step {self._step} of the world of {self._who}: the world is gone")
        async with asking(self._channels, lambda: f"step {action.step} of the world of {self._who}", self._timeout_s):
            self._outbox.put(action.SerializeToString())
            while (answer := await self._call.read()) is not END:
                observation = pb.Observation.FromString(answer)
                if observation.step == action.step:
                    shown = decode_observation(observation)
                    self._over = shown.over
                    return shown
                if observation.step > action.step:
                    raise EndpointBroken(
                        f"step {action.step} of the world of {self._who} at {self._channels.config.address} was "
                        f"answered as step {observation.step}; an observation carries the number of the step it answers"
                    )
            raise EndpointBroken(
                f"the stream of the world of {self._who} at {self._channels.config.address} ended without an answer to "
                f"step {action.step}"
            )


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
        while await send(self._call, await self._action()):
            pass

    async def _action(self) -> bytes:
        if said := self._next:
            self._next = b""
            return said
        self._wanted = asyncio.get_running_loop().create_future()
        return await self._wanted
