"""What the checks need of a connection, whatever it is made of: `GrpcLine` and `HttpLine` play these roles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import Message

from rlforge.checks.fault import Fault
from rlforge.checks.place import Place
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2


class WorldLine(Protocol):
    """One world, from below."""

    async def send(self, message: Message | bytes) -> None:
        """Send an action, or bytes that are none, and wait for nothing."""
        ...

    async def answer(self, waiting_for: str = ..., within_s: float = ...) -> environment_pb2.Observation:
        """The next observation. Raises Fault when the world ended instead, DeadlineExceeded when nothing came."""
        ...

    async def ask(self, message: Message | bytes, waiting_for: str = ...) -> environment_pb2.Observation:
        """Send an action and wait for its observation."""
        ...

    async def quiet(self, seconds: float) -> bool:
        """Whether nothing more arrives for so long."""
        ...

    async def ending(self, within_s: float = ...) -> Fault:
        """How the server ends the world: `OK` or a status."""
        ...

    async def leave(self) -> None:
        """End the world as a client does that has finished."""
        ...

    async def free(self) -> None:
        """Break off, whatever the world is doing. May be called twice."""
        ...


class EnvironmentLine(Protocol):
    """A connection to an environment that no other shares."""

    @property
    def place(self) -> Place:
        """Where it leads."""
        ...

    @property
    def bound(self) -> bool:
        """Whether a world lives no longer than its connection."""
        ...

    async def describe(self) -> environment_pb2.EnvironmentSpec:
        """What it says it is. Raises Fault."""
        ...

    async def tasks(self, split: str, offset: int = ..., limit: int = ...) -> list[types_pb2.Task]:
        """Tasks of a split. Raises Fault."""
        ...

    def world(self, timeout_s: float | None = ...) -> WorldLine:
        """A world to be; nothing has been sent."""
        ...

    async def healthy(self) -> str:
        """`SERVING`, or what its health service says instead. Raises Fault where it has none."""
        ...

    async def close(self) -> None:
        """Hang up at once."""
        ...


class RewardLine(Protocol):
    """A connection to a reward endpoint that no other shares."""

    @property
    def place(self) -> Place:
        """Where it leads."""
        ...

    @property
    def bound(self) -> bool:
        """Whether scores also come in streams, which live no longer than their connection."""
        ...

    @property
    def plain(self) -> bool:
        """Whether it only scores, and answers numbers in the order of the items, without ids."""
        ...

    async def describe_scorer(self) -> reward_pb2.ScorerSpec:
        """What it says it is. Raises Fault."""
        ...

    async def score(self, request: reward_pb2.ScoreRequest | bytes, timeout_s: float = ...) -> reward_pb2.ScoreResponse:
        """Judge a batch, or see what bytes that are none lead to. Raises Fault."""
        ...

    async def score_stream(self, items: Sequence[reward_pb2.ScoreItem]) -> list[types_pb2.Score]:
        """Judge items one by one. Raises Fault; code `UNIMPLEMENTED` where the transport has no such thing."""
        ...

    async def healthy(self) -> str:
        """`SERVING`, or what its health service says instead. Raises Fault where it has none."""
        ...

    async def close(self) -> None:
        """Hang up at once."""
        ...
