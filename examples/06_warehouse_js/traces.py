"""Plays the warehouse over its address and writes what was said, for the model to imitate first."""

import argparse
import asyncio
import json
import re
from pathlib import Path

from rlforge.interfaces import Environment
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Message, Task, WorldStart

AT, CARRIED, WAITING = r"robot at (\d),(\d)", r" carried, for (\d),(\d)", r" at (\d),(\d), for \d,\d"


def expert(shown: str) -> str:
    """The next action of a player that reads the text as the model will."""
    carried = re.search(CARRIED, shown)
    at, goal = re.search(AT, shown), carried or re.search(WAITING, shown)
    assert at is not None
    assert goal is not None
    east, south = (int(goal[axis]) - int(at[axis]) for axis in (1, 2))
    if east:
        return f"move {'east' if east > 0 else 'west'} {abs(east)}"
    if south:
        return f"move {'south' if south > 0 else 'north'} {abs(south)}"
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
    """Write `count` conversations as rows of a JSONL source."""
    environment = connect_environment(EndpointConfig(address=address, token="env:TOKEN"))
    tasks = [task async for task in environment.tasks("train", 0, count)]
    rows = [(task, await played(environment, task, seed)) for seed, task in enumerate(tasks)]
    await environment.close()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as out:
        for task, messages in rows:
            spoken = [{"role": message.role, "content": message.text} for message in messages]
            out.write(json.dumps({"id": task.id, "messages": spoken}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the warehouse, grpc://host:port")
    parser.add_argument("file", type=Path, help="file to write")
    parser.add_argument("--count", type=int, default=600, help="conversations")
    given = parser.parse_args()
    asyncio.run(write(given.address, given.file, given.count))
