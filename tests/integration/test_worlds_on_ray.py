"""A recipe on Ray whose rollout worker plays in worlds behind gRPC: it runs, and no world outlives it."""

from pathlib import Path

import pytest

from rlforge.hosting.serve import serving
from rlforge.recipe import Recipe
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import SilentProgress
from rlforge.runlog.rollouts import read_rollouts
from tests.unit.orchestrators import worlds
from tests.unit.run.test_environments import recipe


@pytest.mark.slow
async def test_a_worker_on_ray_plays_in_served_worlds_and_leaves_none_behind(tmp_path: Path) -> None:
    worlds.OPEN.clear()
    worlds.SEEDS.clear()
    async with serving(worlds.Guess, "grpc://127.0.0.1:0", worlds=64) as address:
        data = recipe(tmp_path).model_dump(mode="json")
        data["environments"]["lamp"] = {"address": address}
        data["cluster"] = {"type": "ray"}
        data["stages"][0] |= {"steps": 1, "evaluations": []}
        plan = Recipe.parse(data)
        folder = RunFolder.create(tmp_path / "run", plan.yaml())
        await train(plan, folder=folder, progress=SilentProgress())
    (file,) = (tmp_path / "run" / "rollouts").glob("*.parquet")
    rollouts = read_rollouts(file)
    assert len(rollouts) == 6
    assert all(len(rollout.turns) == 5 or rollout.stop_reason == "completed" for rollout in rollouts)
    assert all(len(set(seeds)) == 1 for seeds in worlds.SEEDS.values())
    assert worlds.SEEDS
    assert not worlds.OPEN
