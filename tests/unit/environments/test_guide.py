"""The classes in the guide are environments that do what it says."""

import re
from pathlib import Path

from rlforge.environments.adapt import adapt
from rlforge.types import Task
from tests.unit.environments.worlds import call, say, start, text

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "environments.md"
TASK = Task(id="t", messages=(), info={})


def shown():
    classes: dict = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        exec(block, classes)
    return classes


async def test_the_thermostat_is_an_environment_of_twelve_lines():
    world, first = await adapt(shown()["Thermostat"]).open(start(seed=3, task=TASK))
    assert text(first).startswith("It is 18 degrees")
    seen = [await world.step(say("warmer")) for _ in range(3)]
    assert [(each.reward, each.terminated) for each in seen] == [(0.0, False), (0.0, False), (1.0, True)]
    block = re.search(r"```python\n(class Thermostat.*?)```", GUIDE.read_text(), re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 12


async def test_the_shop_is_one():
    world, _ = await adapt(shown()["Shop"]).open(start(task=TASK))
    assert (await world.step(call("add", '{"item": "bread"}'))).reward == 1.0
    assert (await world.step(say("done"))).terminated


async def test_the_dial_lists_its_tasks():
    environment = adapt(shown()["Dial"])
    assert (await environment.describe()).splits == {"train": 10, "test": 3}
    assert [task.info["goal"] async for task in environment.tasks("test")] == [27, 28, 29]
