"""Where stages begin and stop: pre-training, one stage alone, going on in the middle, weights of an earlier run."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlforge.bench.resume import fingerprint
from rlforge.cli import main
from rlforge.errors import ConfigError, DataError, RunError
from rlforge.recipe import Recipe
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import RunResult, SilentProgress
from tests.unit.docs.test_metrics import documented
from tests.unit.run.test_train import recipe, run

SHAPE = {"hidden_size": 32, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32, "context": 64}
NO_STEP = {"metric": "eval/held_out/accuracy", "at_least": 0.0}
"""Ends a stage before its first step: what it saves are the weights it began with."""


class InterruptedAt(SilentProgress):
    """Asks the run to stop, as Ctrl-C does, while it takes that step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        if step == self._step:
            os.kill(os.getpid(), signal.SIGINT)


def changed(plan: Recipe, **values: Any) -> Recipe:
    return Recipe.parse(plan.model_dump(mode="json") | values)


def imitating(folder: Path, **stage: Any) -> Recipe:
    """A recipe whose only stage is the `sft` stage of the small one."""
    plan = recipe(folder)
    warm = plan.model_dump(mode="json")["stages"][0] | {"evaluations": []} | stage
    return changed(plan, stages=[warm], rewards=None)


def learned(folder: RunFolder, *, clocks: bool = False) -> list[dict[str, Any]]:
    """What each step measured; what clocks did only if asked for."""
    lines = map(json.loads, (folder.path / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if clocks or not key.endswith("_s")} for line in lines]


def weights(folder: Path) -> str:
    return fingerprint(folder)["model.safetensors"]


async def test_a_pretrain_stage_learns_every_token_of_plain_text_and_needs_no_rewards(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n".join("abc" * 30 for _ in range(6)))
    text = {"type": "text", "path": str(tmp_path / "book.txt"), "separate": "lines"}
    stage = {"type": "pretrain", "name": "base", "data": [text], "steps": 12, "batch_size": 4, "max_tokens": 32}
    plan = Recipe.parse(
        {
            "name": "text",
            "model": {"init": SHAPE},
            "cluster": {"type": "in_process"},
            "stages": [stage | {"learner": {"lr": 3e-2}}],
        }
    )
    result = await run(plan, tmp_path / "run")
    assert [(done.name, done.type, done.steps) for done in result.stages] == [("base", "pretrain", 12)]
    folder = RunFolder.open(tmp_path / "run")
    steps = learned(folder)
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert steps[-1]["learner/loss"] < steps[0]["learner/loss"] / 2
    pieces = [line["learner/tokens"] - line["learner/sampled_tokens"] for line in steps]
    assert pieces == [4 * 3] * 12, "loss falls on all but the first token of each piece: 90 letters make 3"
    assert (folder.resolve("base/final").path / "model.safetensors").is_file()


def test_one_stage_alone_is_run_and_the_next_goes_on_from_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe(tmp_path).yaml())
    asked = [str(tmp_path / "recipe.yaml"), "--runs-dir", str(tmp_path / "runs")]
    main_or_exit("train", *asked, "--stage", "warm")
    folder = RunFolder.open(tmp_path / "runs" / "small")
    assert (folder.latest("warm") is not None, folder.latest("grpo")) == (True, None)
    assert folder.status == "finished"
    before = weights(folder.resolve("warm/final").path)
    main_or_exit("train", "--resume", str(folder.path), "--stage", "grpo")
    assert weights(folder.resolve("warm/final").path) == before
    assert folder.resolve("grpo/final").step == 2
    assert {line["stage"] for line in learned(folder)} == {"warm", "grpo"}


async def test_a_stage_that_is_not_there_or_has_nothing_to_start_from_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", recipe(tmp_path).yaml())
    with pytest.raises(ConfigError, match=r"no stage 'grop'.*Did you mean 'grpo'"):
        await train(recipe(tmp_path), folder=folder, progress=SilentProgress(), only_stage="grop")
    with pytest.raises(RunError, match="no checkpoint 'warm/final'"):
        await train(recipe(tmp_path), folder=folder, progress=SilentProgress(), only_stage="grpo")


async def test_an_imitation_interrupted_in_the_middle_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    plan = imitating(tmp_path, steps=5)
    await run(plan, tmp_path / "whole")
    first = await train(plan, folder=RunFolder.create(tmp_path / "halves", plan.yaml()), progress=InterruptedAt(2))
    assert first.interrupted
    (done,) = [stage.steps for stage in first.stages]
    assert 2 <= done < 5
    result: RunResult = await run(plan, tmp_path / "halves")
    assert [stage.steps for stage in result.stages] == [5]
    whole, halves = RunFolder.open(tmp_path / "whole"), RunFolder.open(tmp_path / "halves")
    assert learned(halves) == learned(whole)
    assert fingerprint(halves.resolve("warm/final").path) == fingerprint(whole.resolve("warm/final").path)


def with_a_long_prompt(folder: Path, on_bad_row: str) -> Recipe:
    """Five steps of four conversations, of which one has no reply within the model's context of 64 tokens."""
    plan = imitating(folder, steps=5, batch_size=4)
    data = plan.model_dump(mode="json")["stages"][0]["data"][0] | {"on_bad_row": on_bad_row, "limit": 8}
    rows = (folder / "tasks.jsonl").read_text().splitlines()
    long = json.dumps({"id": "long", "prompt": "1+" * 100, "answer": "100"})
    (folder / "tasks.jsonl").write_text("\n".join([long, *rows]))
    return imitating_from(plan, data)


def imitating_from(plan: Recipe, data: Mapping[str, Any]) -> Recipe:
    stage = plan.model_dump(mode="json")["stages"][0]
    return changed(plan, stages=[stage | {"data": [data]}])


async def test_a_conversation_without_a_reply_in_reach_is_left_out_and_told(tmp_path: Path) -> None:
    plan = with_a_long_prompt(tmp_path, "skip")
    await run(plan, tmp_path / "whole")
    first = await train(plan, folder=RunFolder.create(tmp_path / "halves", plan.yaml()), progress=InterruptedAt(2))
    assert first.interrupted
    await run(plan, tmp_path / "halves")
    whole, halves = RunFolder.open(tmp_path / "whole"), RunFolder.open(tmp_path / "halves")
    assert learned(halves) == learned(whole)
    assert [line.get("data/left_out", 0) for line in learned(whole)].count(1) in (2, 3), "once in two steps of four"
    (told,) = whole.events.read("rows_skipped")
    assert "'sums/long': its first 64 tokens hold no reply" in told.message
    assert fingerprint(halves.resolve("warm/final").path) == fingerprint(whole.resolve("warm/final").path)


async def test_a_conversation_without_a_reply_in_reach_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'sums/long'.*raise max_tokens; mend it, or set on_bad_row: skip on source"):
        await run(with_a_long_prompt(tmp_path, "refuse"), tmp_path / "run")


async def test_a_step_of_nothing_but_bad_rows_teaches_nothing_and_says_so(tmp_path: Path) -> None:
    plan = with_a_long_prompt(tmp_path, "skip")
    (data,) = plan.model_dump(mode="json")["stages"][0]["data"]
    with pytest.raises(DataError, match="step 1 has nothing to learn from"):
        await run(imitating_from(plan, data | {"limit": 1}), tmp_path / "run")


async def test_a_step_that_a_later_stage_starts_from_is_written_and_kept(tmp_path: Path) -> None:
    plan = imitating(tmp_path, steps=6, checkpoint_every=4, keep_last=1)
    (warm,) = plan.model_dump(mode="json")["stages"]
    later = warm | {"name": "later", "start_from": "warm/step_000003", "steps": 1}
    await run(changed(plan, stages=[warm, later]), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert [checkpoint.step for checkpoint in folder.checkpoints.list("warm")] == [3, 6]
    assert folder.resolve("later/final").step == 1


@pytest.mark.parametrize("by", ["start_from", "model.path"])
async def test_a_later_recipe_starts_from_the_checkpoint_of_an_earlier_run(tmp_path: Path, by: str) -> None:
    await run(imitating(tmp_path), tmp_path / "earlier")
    checkpoint = RunFolder.open(tmp_path / "earlier").resolve("warm/final").path
    later = recipe(tmp_path).model_dump(mode="json")
    stage = later["stages"][0] | {"name": "later", "stop_when": NO_STEP}
    if by == "start_from":
        stage["start_from"] = str(checkpoint)
    else:
        later["model"] = {"path": str(checkpoint)}
    result = await run(Recipe.parse(later | {"stages": [stage]}), tmp_path / "later")
    assert [(each.name, each.steps) for each in result.stages] == [("later", 0)]
    assert weights(RunFolder.open(tmp_path / "later").resolve("later/final").path) == weights(checkpoint)


async def test_every_key_that_a_run_writes_stands_in_the_page_of_metrics(tmp_path: Path) -> None:
    await run(recipe(tmp_path), tmp_path / "run")
    known = [re.compile(re.sub(r"<\w+>", r"[^/]+", re.escape(key))) for key in documented()]
    written = {key for line in learned(RunFolder.open(tmp_path / "run"), clocks=True) for key in line}
    assert {"generator/tokens_per_s", "eval/held_out/pass_at_2", "reward/mean"} <= written
    told = {key for key in written if any(pattern.fullmatch(key) for pattern in known)}
    assert written - told == {"schema", "stage", "step", "evaluation"}


def main_or_exit(*arguments: str) -> None:
    """Run a command and take its leave; any code but 0 fails the test."""
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert not leave.value.code, arguments
