"""A wait on an RPC: its deadline, and what its faults are to us."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from rlforge.deadlines import Limit
from rlforge.errors import DataError, DeadlineExceeded, EndpointBroken
from rlforge.transports.grpc_channel import Channels
from rlforge.transports.grpc_status import from_status
from rlforge.transports.secrets import redacted


async def unary(
    channels: Channels, method: str, request: Any, answer: Any, doing: str = "", timeout_s: float = 0.0
) -> Any:
    """Ask once; `answer` is the type of what is said. Raises EndpointError or DeadlineExceeded."""
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
            why = redacted(str(error), self._channels.secrets)
            raise EndpointBroken(f"{self._what}: the answer makes no sense: {why}") from error

    @property
    def _what(self) -> str:
        doing = self._doing if isinstance(self._doing, str) else self._doing()
        return f"{doing} at {self._channels.config.address}"
