"""An environment over gRPC: what it is, its tasks, its worlds."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rlforge.transports.grpc_call import asking, unary
from rlforge.transports.grpc_channel import Channels
from rlforge.transports.grpc_status import END
from rlforge.transports.grpc_world import GrpcWorld
from rlforge.transports.remote import RemoteEnvironment
from rlforge.types import EnvironmentSpec, Observation, Task, WorldStart
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.pb import types_pb2
from rlforge.wire.rollouts import decode_task
from rlforge.wire.worlds import decode_spec

SERVICE = "/rlforge.v1.Environment"
LISTING_S = 3600.0
"""Seconds that a whole list of tasks may take: past them a server knows that nobody reads on."""


class GrpcEnvironment(RemoteEnvironment):
    """An environment over gRPC: every world is a stream of its own."""

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels.config)
        self.channels = channels

    async def tasks(self, split: str, offset: int = 0, limit: int = 0) -> AsyncIterator[Task]:
        """The tasks of a split in their order; each must come within `connect_timeout_s`."""
        channel = await self.channels.ready()
        call = channel.unary_stream(
            f"{SERVICE}/ListTasks", pb.ListTasksRequest.SerializeToString, types_pb2.Task.FromString
        )(
            pb.ListTasksRequest(split=split, offset=offset, limit=limit),
            timeout=LISTING_S,
            metadata=self.channels.metadata,
        )
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
        sent = await unary(self.channels, f"{SERVICE}/Describe", pb.DescribeRequest(), pb.EnvironmentSpec)
        return decode_spec(sent)

    async def _open(self, start: WorldStart) -> tuple[GrpcWorld, Observation]:
        channel = await self.channels.ready()
        call = channel.stream_stream(f"{SERVICE}/Interact")(
            timeout=start.lifetime_s or None, metadata=self.channels.metadata
        )
        world = GrpcWorld(
            self.channels, call, start.rollout_id or start.task.id, self.step_timeout_s(start), self.freed
        )
        return world, await world.begin(start)

    async def _close(self) -> None:
        await self.channels.close()
