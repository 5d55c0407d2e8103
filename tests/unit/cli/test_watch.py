"""What a run shows is the same on a terminal and in its log."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from rlforge.cli.sparkline import sparkline
from rlforge.cli.watch import Display, Lines, Log, evaluation_text
from rlforge.recipe.document import Recipe
from rlforge.runlog.progress import RunResult, StageResult


@pytest.fixture
def recipe() -> Recipe:
    stage = {"type": "rl", "name": "grpo", "data": [{"type": "jsonl", "path": "t.jsonl"}], "steps": 4}
    rewards = {"scorers": [{"type": "regex", "pattern": "x"}]}
    return Recipe.parse({"name": "add", "model": {"init": {}}, "rewards": rewards, "stages": [stage]})


RESULT = RunResult(
    run="runs/add",
    stages=(
        StageResult(
            name="grpo",
            type="rl",
            steps=4,
            before={"eval/held_out/accuracy": 0.43},
            after={"eval/held_out/accuracy": 0.95},
            seconds=61.0,
        ),
    ),
    seconds=75.0,
)


def _play(watcher: Lines | Display, recipe: Recipe) -> None:
    watcher.plan(recipe)
    watcher.stage("grpo", "rl", 4)
    watcher.evaluation("grpo", 0, "held_out", {"eval/held_out/accuracy": 0.43})
    for step in range(1, 5):
        metrics = {"reward/mean": step / 4, "length/total_tokens": 100.0, "time/step_s": 0.5}
        watcher.step("grpo", step, metrics)
    watcher.finish(RESULT)


def test_lines_tell_reward_speed_and_time_left(recipe: Recipe) -> None:
    said: list[str] = []
    seconds = iter(range(100))
    _play(Lines(said.append, clock=lambda: float(next(seconds))), recipe)
    steps = [line for line in said if line.startswith("grpo 2/4")]
    assert len(steps) == 1
    assert all(word in steps[0] for word in ("▁█", "reward 0.500", "accuracy 0.430", "200 tokens/s", "s left"))
    assert any("accuracy 0.430" in line for line in said)


def test_a_step_whose_rewards_do_not_differ_in_any_group_is_told(recipe: Recipe) -> None:
    said: list[str] = []
    lines = Lines(said.append)
    lines.plan(recipe)
    lines.stage("grpo", "rl", 2)
    lines.step("grpo", 1, {"reward/mean": 0.5, "groups/count": 4, "groups/zero_signal": 3})
    lines.step("grpo", 2, {"reward/mean": 0.5, "groups/count": 4, "groups/zero_signal": 4})
    assert ["no signal" in line for line in said if line.startswith("grpo ")] == [False, True]


def test_evaluation_tells_how_many_attempts_have_no_reward() -> None:
    assert evaluation_text({"eval/x/accuracy": 0.5, "eval/x/unscored_share": 0.0}) == "accuracy 0.500"
    assert evaluation_text({"eval/x/accuracy": 0.5, "eval/x/unscored_share": 0.1}) == "accuracy 0.500, unscored 10%"
    assert evaluation_text({"eval/x/unscored_share": 1.0}) == "nothing was scored, unscored 100%"


def test_end_shows_before_and_after_and_the_next_command(recipe: Recipe) -> None:
    said: list[str] = []
    _play(Lines(said.append), recipe)
    table = next(line for line in said if line.startswith("grpo (rl)"))
    assert "0.430" in table
    assert "0.950" in table
    assert said[-2:] == ["run: runs/add (1 min 15 s)", "next: rlforge runs rollouts runs/add --stage grpo --worst 3"]


def test_interrupted_run_names_the_command_that_goes_on() -> None:
    said: list[str] = []
    Lines(said.append).finish(RunResult(run="runs/add", interrupted=True))
    assert said[-1] == "interrupted; go on with: rlforge train --resume runs/add"


def test_terminal_and_log_tell_the_same(recipe: Recipe, tmp_path: Path) -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=True, width=100), Log(tmp_path / "run.log"))
    _play(display, recipe)
    display.close()
    log = (tmp_path / "run.log").read_text()
    for text in ("reward 1.000", "0.950", "next: rlforge runs rollouts"):
        assert text in screen.getvalue()
        assert text in log
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([0, 0, 0], "▁▁▁"),
        ([0, 1], "▁█"),
        ([0, float("nan"), 7], "▁█"),
        (list(range(100)), None),
    ],
)
def test_sparkline_rises_with_its_values(values: list[float], bars: str | None) -> None:
    line = sparkline(values, width=8)
    assert line == (bars if bars is not None else "▁▂▃▄▅▆▇█")
