"""The simulator in a process of its own, played over gRPC."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from pick_and_place.expert import expert

from rlforge.interfaces import Environment
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Message, WorldStart

RLFORGE = Path(sys.executable).parent / "rlforge"


@pytest.fixture
def address() -> Generator[str]:
    command = [str(RLFORGE), "serve", "environment", "pick_and_place:PickAndPlace", "--at", "grpc://127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield json.loads(server.stderr.readline())["address"]
        finally:
            server.terminate()
            server.communicate(timeout=30)


async def carried(environment: Environment, member: int) -> float:
    (task,) = [task async for task in environment.tasks("test", offset=3, limit=1)]
    world, seen = await environment.open(WorldStart(task=task, seed=11, member=member))
    earned = 0.0
    while not seen.over:
        seen = await world.step(Message.of("assistant", expert(seen.messages[-1].text)))
        earned += seen.reward or 0.0
    await world.close()
    return earned


async def test_worlds_side_by_side_on_one_server_are_each_carried_through(address: str) -> None:
    environment = connect_environment(EndpointConfig(address=address))
    try:
        spec = await environment.describe()
        assert (spec.name, spec.deterministic, spec.splits["test"]) == ("pick_and_place", True, 512)
        assert await asyncio.gather(*(carried(environment, member) for member in range(8))) == [1.0] * 8
    finally:
        await environment.close()
