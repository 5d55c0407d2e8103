"""Tasks that an environment lists itself."""

from pathlib import Path
from typing import Any

import pytest

from rlforge.data.environment import EnvironmentSource
from rlforge.errors import DataError
from rlforge.transports.config import EndpointConfig

WORLD = """
class Walk:
    tasks = {"train": [{"id": n, "prompt": "walk", "info": {"turns": 9, "layout": n}} for n in range(3)]}

    def reset(self, task, seed):
        return "where?"

    def step(self, action):
        return "on", 0.0, False, False, {}
"""


SHORT = """
from rlforge.types import EnvironmentSpec, Task

class Walk:
    async def describe(self):
        return EnvironmentSpec(name="walk", splits={"train": 500})

    async def tasks(self, split, offset=0, limit=0):
        for n in range(100):
            yield Task(id=str(n), messages=())

    async def open(self, start): ...
    async def close(self): ...
"""


def test_an_environment_that_lists_fewer_tasks_than_it_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(SHORT)
    environments = {"walk": EndpointConfig(address=f"python:{tmp_path}/short.py:Walk")}
    config = EnvironmentSource.Config.parse({"environment": "walk"})
    with pytest.raises(DataError, match=r"'walk' at .* says that 'train' has 500 tasks, and listed 100 of 500"):
        EnvironmentSource(config, base=tmp_path, environments=environments)


def listed(folder: Path, **settings: Any) -> EnvironmentSource:
    (folder / "world.py").write_text(WORLD)
    environments = {"walk": EndpointConfig(address=f"python:{folder}/world.py:Walk")}
    config = EnvironmentSource.Config.parse({"environment": "walk", **settings})
    return EnvironmentSource(config, base=folder, environments=environments)


def test_tasks_carry_the_facts_of_the_recipe_beside_their_own_and_keep_their_ids(tmp_path: Path) -> None:
    plain, short = listed(tmp_path), listed(tmp_path, info={"turns": 4, "calm": True})
    assert [task.info for task in plain] == [{"turns": 9, "layout": n} for n in range(3)]
    assert [task.info for task in short] == [{"turns": 4, "layout": n, "calm": True} for n in range(3)]
    assert [task.id for task in short] == [task.id for task in plain]
