"""What a gRPC server sees of a client: deadlines where the protocol says so, and no cancelling after a success."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.pb import types_pb2
from rlforge.wire.pb.environment_pb2_grpc import EnvironmentServicer, add_EnvironmentServicer_to_server
from tests.worlds import say, start, until


class Watching(EnvironmentServicer):
    """A world is over after one step; takes its time to end the stream, as one that writes its log does."""

    def __init__(self) -> None:
        self.left: dict[str, float | None] = {}
        self.ends: list[str] = []

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.EnvironmentSpec:  # noqa: N802
        self.left["Describe"] = context.time_remaining()
        return pb.EnvironmentSpec(name="watching", protocol_version=1, splits=[pb.Split(name="train", tasks=1)])

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> AsyncIterator[types_pb2.Task]:  # noqa: N802
        self.left["ListTasks"] = context.time_remaining()
        yield types_pb2.Task(id="a")

    async def Interact(self, requests: Any, context: Any) -> None:  # noqa: N802
        self.left["Interact"] = context.time_remaining()
        try:
            while (action := await context.read()) is not grpc.aio.EOF:
                await context.write(pb.Observation(step=action.step, terminated=action.step == 1))
                if action.step == 1:
                    await asyncio.sleep(0.2)
                    self.ends.append("ended")
                    return
            self.ends.append("left")
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Watching, Any]]:
    server, watching = grpc.aio.server(), Watching()
    add_EnvironmentServicer_to_server(watching, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    environment = connect_environment(EndpointConfig(address=f"grpc://127.0.0.1:{port}"))
    try:
        yield watching, environment
    finally:
        await environment.close()
        await server.stop(0)


async def test_a_world_that_is_over_is_left_to_its_server_and_one_that_is_not_is_cancelled() -> None:
    async with watched() as (watching, environment):
        world, _ = await environment.open(start())
        assert (await world.step(say("on"))).over
        await world.close()
        await until(lambda: watching.ends == ["ended"])
        world, _ = await environment.open(start())
        await world.close()
        await until(lambda: len(watching.ends) == 2)
        assert watching.ends[1] in ("left", "cancelled")  # whichever of the two the server is told first


async def test_listing_has_a_deadline_and_a_world_only_one_of_its_own() -> None:
    async with watched() as (watching, environment):
        _ = [task async for task in environment.tasks("train")]
        world, _ = await environment.open(start())
        await world.close()
        assert watching.left["Describe"]
        assert watching.left["ListTasks"]
        assert watching.left["Interact"] is None
        world, _ = await environment.open(start(lifetime_s=30.0))
        await world.close()
        assert 25 < (watching.left["Interact"] or 0) < 35
