"""A whole recipe whose rollouts are played in worlds, in one process with random replies."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlforge.errors import TooManyUnscored
from rlforge.hosting.serve import serving
from rlforge.recipe import Recipe
from rlforge.run.evaluate import evaluate
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import SilentProgress
from rlforge.runlog.rollouts import read_rollouts
from rlforge.types import Rollout
from tests.faults.adding import Adding, Breaks, assert_each_once_and_none_wrong
from tests.faults.proxy import Proxy

WORLD = """
class Lamp:
    tasks = {"train": [{"id": n, "prompt": "light?", "info": {"n": n}} for n in range(8)]}

    def reset(self, task, seed):
        self.seed, self.turns = seed, 0
        return f"seed {seed % 7}"

    def step(self, action):
        self.turns += 1
        reward = {"reward": 0.1 * len(set(action)), "length": len(action)}
        return "more", reward, self.turns == 3, False, {"at": self.turns}
"""


BELL = """
class Bell:
    tasks = {"train": [{"id": n, "prompt": "ring?"} for n in range(8)]}

    def reset(self, task, seed):
        return "silence"

    def step(self, action):
        return None, float(len(action)), True, False, {"rung": True}
"""


def recipe(folder: Path, **changes: Any) -> Recipe:
    """A run in the lamp; `changes` replace keys of the recipe, and of its stage what they know of it."""
    (folder / "world.py").write_text(WORLD + BELL)
    tasks = {"type": "environment", "environment": "lamp"}
    stage: dict[str, Any] = {
        "type": "rl",
        "name": "grpo",
        "data": [tasks],
        "steps": 2,
        "groups_per_step": 2,
        "group_size": 3,
        "sampling": {"max_new_tokens": 6},
        "orchestrator": {"type": "environment_loop", "max_turns": 5, "on_long_reply": "step"},
        "algorithm": {"type": "grpo", "credit": "turns", "discount": 0.9},
        "evaluations": [{"data": [tasks], "limit": 3, "max_new_tokens": 6, "success_at": 0.1}],
    }
    stage |= {key: changes.pop(key) for key in list(changes) if key in stage}
    shape = {"hidden_size": 32, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32, "context": 512}
    return Recipe.parse(
        {
            "name": "lamp",
            "model": {"init": shape, "tokenizer": {"type": "byte"}},
            "generators": {"policy": "scripted"},
            "environments": {"lamp": {"address": f"python:{folder}/world.py:Lamp"}},
            "rewards": {"scorers": [{"type": "environment"}]},
            "cluster": {"type": "in_process"},
            "stages": [stage],
        }
        | changes
    )


def kept(folder: Path) -> list[Rollout]:
    """The rollouts of training that a run folder holds."""
    return [rollout for file in sorted((folder / "rollouts").glob("*.parquet")) for rollout in read_rollouts(file)]


async def test_a_recipe_that_plays_in_worlds_trains_measures_and_keeps_every_turn(tmp_path: Path) -> None:
    plan = recipe(tmp_path)
    folder = RunFolder.create(tmp_path / "run", plan.yaml())
    result = await train(plan, folder=folder, progress=SilentProgress())
    (stage,) = result.stages
    assert stage.steps == 2
    assert stage.after["eval/held_out/unscored_share"] == 0
    rollouts = kept(tmp_path / "run")
    assert len(rollouts) == 12
    assert {len(rollout.turns) for rollout in rollouts} == {3}
    assert [turn.info["at"] for turn in rollouts[0].turns] == [1, 2, 3]
    assert all("length" in turn.components for rollout in rollouts for turn in rollout.turns)
    for group in {rollout.key.group for rollout in rollouts}:
        assert len({rollout.turns[0].prompt_ids for rollout in rollouts if rollout.key.group == group}) == 1
    measured = await evaluate(plan, model=str(RunFolder.open(tmp_path / "run").resolve("grpo/final").path), stage=None)
    assert measured["held_out"].metrics["eval/held_out/tasks"] == 3


async def test_environments_are_mixed_by_weight_and_each_task_is_played_in_its_own(tmp_path: Path) -> None:
    worlds = {name: {"address": f"python:{tmp_path}/world.py:{name.title()}"} for name in ("lamp", "bell")}
    sources = [{"type": "environment", "environment": name} for name in worlds]
    data = [{**sources[0], "weight": 3}, sources[1]]
    plan = recipe(tmp_path, environments=worlds, data=data, groups_per_step=8, group_size=2, evaluations=[])
    await train(plan, folder=RunFolder.create(tmp_path / "run", plan.yaml()), progress=SilentProgress())
    rollouts = kept(tmp_path / "run")
    drawn = Counter(rollout.task.source for rollout in rollouts)
    assert drawn.total() == 32
    assert drawn["bell"] == pytest.approx(8, abs=4)
    for rollout in rollouts:
        assert rollout.scored
        assert rollout.task.id.startswith(f"{rollout.task.source}/")
        told = [dict(turn.info) for turn in rollout.turns]
        assert told == ([{"rung": True}] if rollout.task.source == "bell" else [{"at": 1}, {"at": 2}, {"at": 3}])


# --- behind an endpoint with faults ------------------------------------------------------------------------------


def behind(folder: Path, address: str, *, max_unscored: float, open_timeout_s: float = 3.0) -> Recipe:
    """A run in a world that is served."""
    rows = [{"id": n, "prompt": f"say {n}"} for n in range(8)]
    (folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return recipe(
        folder,
        data=[{"type": "jsonl", "path": str(folder / "tasks.jsonl"), "name": "say"}],
        environments={"adding": {"address": address, "connect_timeout_s": 0.5}},
        rewards={"scorers": [{"type": "environment"}], "max_unscored": max_unscored},
        orchestrator={"type": "environment_loop", "on_long_reply": "step", "open_timeout_s": open_timeout_s},
        groups_per_step=4,
        evaluations=[],
    )


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_training_goes_on_over_an_endpoint_with_faults_and_learns_from_right_rewards_alone(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Breaks, f"{scheme}://127.0.0.1:0") as real:
        proxy = Proxy(int(real.rpartition(":")[2]), faults=("reset", "garbage"), share=0.3, always_first=True)
        await proxy.start()
        dropping: list[asyncio.Task[None]] = []

        def now_and_then(steps: int) -> None:
            if steps % 25 == 0:
                dropping.append(asyncio.create_task(proxy.drop()))

        monkeypatch.setattr(Adding, "meanwhile", staticmethod(now_and_then))
        plan = behind(tmp_path, f"{scheme}://127.0.0.1:{proxy.port}", max_unscored=1.0)
        folder = RunFolder.create(tmp_path / "run", plan.yaml())
        async with asyncio.timeout(60):
            result = await train(plan, folder=folder, progress=SilentProgress())
        await proxy.stop()
        await asyncio.gather(*dropping)
    assert result.stages[0].steps == 2
    assert proxy.done["reset"] + proxy.done["garbage"] >= 1
    rollouts = kept(tmp_path / "run")
    scored = assert_each_once_and_none_wrong(rollouts, [(str(n), member) for n in range(8) for member in range(3)])
    assert 0 < scored < len(rollouts)
    shares = [record.metrics["rollouts/unscored_share"] for record in folder.metrics.records("grpo")]
    assert sum(shares) / 2 == pytest.approx(1 - scored / len(rollouts))


async def test_training_ends_over_an_endpoint_with_faults_where_fewer_may_stay_unscored(tmp_path: Path) -> None:
    async with serving(Adding, "grpc://127.0.0.1:0") as real:
        proxy = Proxy(int(real.rpartition(":")[2]), faults=("garbage",), share=1.0)
        await proxy.start()
        plan = behind(tmp_path, f"grpc://127.0.0.1:{proxy.port}", max_unscored=0.2, open_timeout_s=0.5)
        folder = RunFolder.create(tmp_path / "run", plan.yaml())
        async with asyncio.timeout(60):
            with pytest.raises(TooManyUnscored, match="12 of 12 rollouts are unscored"):
                await train(plan, folder=folder, progress=SilentProgress())
        await proxy.stop()
    assert proxy.done["garbage"] >= 1
