"""A whole recipe in one process with the portable generator: stages, early end, resume, interruption, evaluation."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlforge.cli import main
from rlforge.errors import ConfigError, LearnerError, RunError, SetupError, TooManyUnscored
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.learner.learner import TorchLearner
from rlforge.recipe import Recipe
from rlforge.run.evaluate import evaluate
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import RunResult, SilentProgress
from rlforge.types import Batch, Metrics

REWARDS = """
def exact(rollout):
    return float(rollout.text == rollout.task.answer)

def broken(rollout):
    raise ValueError("no")

def choosy(rollout):
    return 1.0 if rollout.task.id in ("sums/0", "sums/1") else None

asked_before = 0

def fading(rollout):  # judges the first evaluation alone
    global asked_before
    asked_before += 1
    return 1.0 if asked_before <= 18 else None

RIGHT, asked = (0, 1, 3, 2, 3, 1), 0

def rehearsed(rollout):  # so many of the six tasks right in each evaluation, one after another
    global asked
    asked += 1
    return float((asked - 1) % 6 < RIGHT[(asked - 1) // 6])
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


def reinforcing(folder: Path, **changes: Any) -> Recipe:
    """The recipe's `rl` stage alone."""
    plan = recipe(folder).model_dump(mode="json")
    return Recipe.parse(plan | {"stages": plan["stages"][1:]} | changes)


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
    assert folder.checkpoints.marked("warm", "before_anneal") is None


async def test_what_generators_did_in_one_stage_is_not_of_the_next_ones_first_step(tmp_path: Path) -> None:
    class Watches(SilentProgress):
        """Times the first step of the second stage."""

        began = took = waited = 0.0

        def stage(self, name: str, kind: str, steps: int) -> None:
            self.began = time.monotonic()

        def step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
            if (stage, step) == ("grpo", 1):
                self.took, self.waited = time.monotonic() - self.began, metrics["generator/wait_s"]

    plan, progress = recipe(tmp_path), Watches()
    await train(plan, folder=RunFolder.create(tmp_path / "run", plan.yaml()), progress=progress)
    assert 0 < progress.waited < progress.took


async def test_a_step_that_cannot_be_learned_leaves_its_rollouts_whole_and_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: TorchLearner, batch: Batch) -> Metrics:
        raise LearnerError("the loss is not finite")

    def slowly(self: RunFolder, *what: Any) -> None:
        time.sleep(0.2)
        write(self, *what)

    write = RunFolder.write_rollouts
    monkeypatch.setattr(RunFolder, "write_rollouts", slowly)
    monkeypatch.setattr(TorchLearner, "step", fail)
    with pytest.raises(LearnerError, match="not finite"):
        await run(reinforcing(tmp_path), tmp_path / "run")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(RunFolder.open(tmp_path / "run").rollouts("grpo", 1)) == 6


class NeverStarts(ScriptedGenerator):
    """A generator for which there is no room."""

    async def start(self) -> None:
        await asyncio.sleep(0.05)
        raise SetupError("out of memory")


async def test_a_part_that_does_not_start_leaves_no_other_to_start_after_the_end(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="out of memory"):
        await run(reinforcing(tmp_path, generators={"policy": f"{__name__}:NeverStarts"}), tmp_path / "run")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not [command for command in left if any(word.startswith("rlforge.") for word in command)]


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


async def test_a_stage_never_ends_on_an_evaluation_of_the_few_that_were_scored(tmp_path: Path) -> None:
    with pytest.raises(TooManyUnscored, match="evaluation 'held_out', greedy attempts: 4 of 6"):
        await run(recipe(tmp_path, reward="choosy", stop_at=1.0), tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").checkpoints.stages() == []


async def test_what_an_evaluation_could_not_measure_is_not_reported_from_an_earlier_one(tmp_path: Path) -> None:
    plan = recipe(tmp_path, reward="fading").model_dump(mode="json")
    plan["rewards"]["max_unscored"] = 1.0
    (stage,) = (await run(Recipe.parse(plan | {"stages": plan["stages"][:1]}), tmp_path / "run")).stages
    assert (stage.before["eval/held_out/accuracy"], stage.before["eval/held_out/pass_at_2"]) == (1.0, 1.0)
    assert set(stage.after) == {f"eval/held_out/{key}" for key in ("tasks", "unscored_share", "seconds_s")}


async def test_the_best_the_last_before_the_anneal_and_the_final_checkpoint_are_kept(tmp_path: Path) -> None:
    told = recipe(tmp_path, reward="rehearsed", sft_steps=5).model_dump(mode="json")
    told["stages"] = told["stages"][:1]
    told["stages"][0] |= {"keep_last": 1, "learner": {"schedule": {"anneal": "linear", "anneal_steps": 2}}}
    told["stages"][0]["evaluations"][0] |= {"samples": 0}
    result = await run(Recipe.parse(told), tmp_path / "run")
    assert result.stages[0].after["eval/held_out/accuracy"] == 1 / 6
    kept = RunFolder.open(tmp_path / "run").checkpoints
    assert [checkpoint.step for checkpoint in kept.list("warm")] == [2, 3, 5]
    marks = {name: kept.marked("warm", name) for name in ("best", "before_anneal", "final")}
    assert {name: found and found.step for name, found in marks.items()} == {"best": 2, "before_anneal": 3, "final": 5}


async def test_a_run_whose_data_changed_under_it_does_not_go_on(tmp_path: Path) -> None:
    plan = recipe(tmp_path)
    await run(plan, tmp_path / "run")
    final = tmp_path / "run" / "checkpoints" / "grpo" / "final"
    final.unlink()  # as if it had been interrupted after its last checkpoint
    await run(plan, tmp_path / "run")
    final.unlink()
    rows = (tmp_path / "tasks.jsonl").read_text().splitlines()
    (tmp_path / "tasks.jsonl").write_text("\n".join([rows[-1], *rows[:-1]]))
    with pytest.raises(RunError, match="the data or the seed changed under the run"):
        await run(plan, tmp_path / "run")


async def test_sources_are_mixed_by_their_weights(tmp_path: Path) -> None:
    told = recipe(tmp_path).model_dump(mode="json")
    told["stages"] = told["stages"][1:]
    often = told["stages"][0]["data"][0] | {"name": "often", "weight": 3.0}
    told["stages"][0] |= {"data": [often, often | {"name": "seldom", "weight": 1.0}], "groups_per_step": 4}
    await run(Recipe.parse(told), tmp_path / "run")
    ledger = RunFolder.open(tmp_path / "run").resolve("grpo/final").path / "ledger.json"
    entries = [entry for step in json.loads(ledger.read_text())["steps"] for entry in step["entries"]]
    drawn = Counter(entry["task_id"].partition("/")[0] for entry in entries)
    assert drawn == {"often": 6, "seldom": 2}


async def test_bad_rows_left_out_of_training_and_of_evaluations_are_told(tmp_path: Path) -> None:
    told = recipe(tmp_path).model_dump(mode="json")
    with (tmp_path / "tasks.jsonl").open("a") as file:
        file.write('\n{"prompt": 3}\n')
    warm = told["stages"][0]
    for data in (warm["data"][0], warm["evaluations"][0]["data"][0]):
        data["on_bad_row"] = "skip"
    told["stages"] = [warm | {"steps": 1}]
    plan = Recipe.parse(told)
    await run(plan, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    events = {event.message.partition(": ")[0]: event for event in folder.events.read("rows_skipped")}
    assert set(events) == {"stage 'warm'", "stage 'warm', evaluation 'held_out'"}
    for event in events.values():
        assert "source 'sums' left out 1 bad rows" in event.message
        assert "tasks.jsonl:25" in event.details["rows"][0]
    said: list[str] = []
    await evaluate(plan, model=str(folder.resolve("warm/final").path), stage=None, tell=said.append)
    assert [line.partition(": ")[0] for line in said] == ["evaluation 'held_out'"]


def test_eval_tells_what_became_of_each_task_as_the_run_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(recipe(tmp_path, sft_steps=1), tmp_path / "run"))
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["eval", str(tmp_path / "run"), "--model", "warm/final", "--stage", "warm", "--json"])
    told = json.loads(capsys.readouterr().out)["tasks"]["held_out"]
    kept = RunFolder.open(tmp_path / "run").evaluation("warm", 1, "held_out")
    assert told == [asdict(result) for result in kept]
    assert {result["member"] for result in told} == {-1, 0, 1}


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
