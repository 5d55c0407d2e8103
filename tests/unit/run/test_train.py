"""A whole recipe in one process with the portable generator: stages, early end, resume, interruption, evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlforge.errors import ConfigError, TooManyUnscored
from rlforge.recipe import Recipe
from rlforge.run.evaluate import evaluate
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import RunResult, SilentProgress

REWARDS = """
def exact(rollout):
    return float(rollout.text == rollout.task.answer)

def broken(rollout):
    raise ValueError("no")
"""


def recipe(folder: Path, *, reward: str = "exact", stop_at: float | None = None, sft_steps: int = 2) -> Recipe:
    (folder / "rewards.py").write_text(REWARDS)
    rows = [{"id": str(n), "prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(24)]
    (folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"type": "jsonl", "path": str(folder / "tasks.jsonl"), "name": "sums"}
    held_out = {"name": "held_out", "data": [data], "limit": 6, "max_new_tokens": 3, "every": 1, "samples": 2}
    held_out |= {"pass_at": [1, 2]}
    stages: list[dict[str, Any]] = [
        {"type": "sft", "name": "warm", "data": [data], "steps": sft_steps, "batch_size": 4, "evaluations": [held_out]},
        {"type": "rl", "name": "grpo", "data": [data], "steps": 2, "groups_per_step": 3, "group_size": 2},
    ]
    stages[1] |= {"sampling": {"max_new_tokens": 3}}
    if stop_at is not None:
        stages[0]["stop_when"] = {"metric": "eval/held_out/accuracy", "at_least": stop_at}
    shape = {"hidden_size": 32, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32, "context": 64}
    return Recipe.parse(
        {
            "name": "small",
            "model": {"init": shape},
            "generators": {"policy": "transformers"},
            "rewards": {"scorers": [{"type": "python", "function": f"{folder}/rewards.py:{reward}"}]},
            "cluster": {"type": "in_process"},
            "stages": stages,
        }
    )


async def run(plan: Recipe, folder: Path) -> RunResult:
    opened = RunFolder.resume(folder) if folder.exists() else RunFolder.create(folder, plan.yaml())
    return await train(plan, folder=opened, progress=SilentProgress())


async def test_stages_follow_one_another_and_leave_checkpoints_metrics_and_a_ledger(tmp_path: Path) -> None:
    result = await run(recipe(tmp_path), tmp_path / "run")
    assert [(stage.name, stage.steps) for stage in result.stages] == [("warm", 2), ("grpo", 2)]
    folder = RunFolder.open(tmp_path / "run")
    assert folder.status == "finished"
    final = folder.resolve("grpo/final")
    assert {"model.safetensors", "config.json", "tokenizer.json", "ledger.json"} <= {
        p.name for p in final.path.iterdir()
    }
    assert final.policy_version > folder.resolve("warm/final").policy_version
    steps = [step["entries"] for step in json.loads((final.path / "ledger.json").read_text())["steps"]]
    assert [entry["position"] for entries in steps for entry in entries] == list(range(6))
    assert "eval/held_out/pass_at_2" in result.stages[0].before


async def test_a_finished_run_is_reported_without_starting_anything(tmp_path: Path) -> None:
    first = await run(recipe(tmp_path), tmp_path / "run")
    again = await run(recipe(tmp_path), tmp_path / "run")
    assert [(s.name, s.steps, s.after) for s in again.stages] == [(s.name, s.steps, s.after) for s in first.stages]


async def test_a_stop_rule_met_before_the_first_step_ends_the_stage_with_its_starting_weights(tmp_path: Path) -> None:
    result = await run(recipe(tmp_path, stop_at=0.0), tmp_path / "run")
    assert result.stages[0].steps == 0
    assert result.stages[0].stopped_by == "eval/held_out/accuracy >= 0"
    assert result.stages[1].steps == 2


async def test_a_reward_that_always_fails_stops_the_run_instead_of_training_on_zeros(tmp_path: Path) -> None:
    with pytest.raises(TooManyUnscored, match="exception"):
        await run(recipe(tmp_path, reward="broken"), tmp_path / "run")


async def test_a_checkpoint_is_evaluated_as_it_was_in_training(tmp_path: Path) -> None:
    plan = recipe(tmp_path)
    result = await run(plan, tmp_path / "run")
    model = str(RunFolder.open(tmp_path / "run").resolve("warm/final").path)
    measured = (await evaluate(plan, model=model, stage="warm"))["held_out"].metrics
    keys = ("eval/held_out/accuracy", "eval/held_out/reward_mean", "eval/held_out/pass_at_2")
    assert {key: measured[key] for key in keys} == {key: result.stages[0].after[key] for key in keys}


async def test_evaluating_a_recipe_without_a_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--model"):
        await evaluate(recipe(tmp_path), model=None, stage=None)
