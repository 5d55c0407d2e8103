"""Plays the warehouse over its address and writes what was said, for the model to imitate first."""

import argparse
import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

from rlforge.interfaces import Environment
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Message, Task, WorldStart

WAY = r"(here|(\d) (\w+))"
CARRIED, WAITING = rf" carried, for \d,\d, {WAY}", rf" at \d,\d, {WAY}"


def expert(shown: str) -> str:
    """The next action of a player that reads the text as the model will."""
    carried = re.search(CARRIED, shown)
    found = carried or re.search(WAITING, shown)
    assert found is not None
    way, steps, direction = found.groups()
    if way != "here":
        return f"move {direction} {steps}"
    return "put" if carried else "pick"


async def played(environment: Environment, task: Task, seed: int) -> list[Message]:
    """The conversation of one world that the expert played to its end."""
    world, seen = await environment.open(WorldStart(task=task, seed=seed))
    said = [*task.messages, *seen.messages]
    while not seen.over:
        said.append(Message.of("assistant", expert(seen.messages[-1].text)))
        seen = await world.step(said[-1])
        said += () if seen.over else seen.messages
    await world.close()
    return said


async def write(address: str, file: Path, count: int) -> None:
    """Write `count` conversations as rows of a JSONL source, each of a world of its own."""
    environment = connect_environment(EndpointConfig(address=address, token="env:TOKEN"))
    tasks = [replace(task, info={"orders": 1}) async for task in environment.tasks("train")]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as out:
        for seed in range(count):
            messages = await played(environment, tasks[seed % len(tasks)], seed)
            spoken = [{"role": message.role, "content": message.text} for message in messages]
            out.write(json.dumps({"id": str(seed), "messages": spoken}) + "\n")
    await environment.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the warehouse, grpc://host:port")
    parser.add_argument("file", type=Path, help="file to write")
    parser.add_argument("--count", type=int, default=1000, help="conversations")
    given = parser.parse_args()
    asyncio.run(write(given.address, given.file, given.count))
