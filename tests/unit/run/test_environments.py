"""A whole recipe whose rollouts are played in worlds, in one process with random replies."""

from pathlib import Path

from rlforge.recipe import Recipe
from rlforge.run.evaluate import evaluate
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import SilentProgress
from rlforge.runlog.rollouts import read_rollouts

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


def recipe(folder: Path) -> Recipe:
    (folder / "world.py").write_text(WORLD)
    tasks = {"type": "environment", "environment": "lamp"}
    stage = {
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
    )


async def test_a_recipe_that_plays_in_worlds_trains_measures_and_keeps_every_turn(tmp_path: Path) -> None:
    plan = recipe(tmp_path)
    folder = RunFolder.create(tmp_path / "run", plan.yaml())
    result = await train(plan, folder=folder, progress=SilentProgress())
    (stage,) = result.stages
    assert stage.steps == 2
    assert stage.after["eval/held_out/unscored_share"] == 0
    files = sorted((tmp_path / "run" / "rollouts").glob("*.parquet"))
    rollouts = [rollout for file in files for rollout in read_rollouts(file)]
    assert len(rollouts) == 12
    assert {len(rollout.turns) for rollout in rollouts} == {3}
    assert [turn.info["at"] for turn in rollouts[0].turns] == [1, 2, 3]
    assert all("length" in turn.components for rollout in rollouts for turn in rollout.turns)
    for group in {rollout.key.group for rollout in rollouts}:
        assert len({rollout.turns[0].prompt_ids for rollout in rollouts if rollout.key.group == group}) == 1
    measured = await evaluate(plan, model=str(RunFolder.open(tmp_path / "run").resolve("grpo/final").path), stage=None)
    assert measured["held_out"]["eval/held_out/tasks"] == 3
