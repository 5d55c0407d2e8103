"""The command line says what it did on stdout, what it thinks on stderr, and what went wrong in one message."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlforge.cli import main
from rlforge.runlog.evaluations import TaskResult
from rlforge.runlog.folder import RunFolder
from rlforge.types import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    Message,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    Score,
    StopReason,
    Task,
    Turn,
)

RECIPE = """\
name: add
model: {init: {}}
rewards: {scorers: [{type: regex, pattern: "^{answer}$"}]}
stages:
  - {type: rl, name: grpo, data: [{type: jsonl, path: tasks.jsonl}], steps: 4, groups_per_step: 1, group_size: 4}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one step with four rollouts of rewards 0 to 2 and one unscored."""
    folder = RunFolder.create(tmp_path / "runs" / "add", "name: add\n")
    task = Task(id="add/1", messages=(Message.of("user", "1+1="),), answer="2", source="add")
    rollouts = tuple(_rollout(task, member, float(member) if member < 3 else None) for member in range(4))
    request = GroupRequest(task=task, group="0", size=4, sampling=Sampling(), seed=0)
    folder.metrics.append("grpo", 1, {"reward/mean": 1.0, "time/step_s": 0.5})
    folder.metrics.append("imitate", 0, {"eval/held_out/accuracy": 0.0}, evaluation="held_out")
    folder.metrics.append("imitate", 1, {"eval/stop/accuracy": 0.5}, evaluation="stop")
    folder.metrics.append("grpo", 1, {"eval/held_out/accuracy": 0.25}, evaluation="held_out")
    folder.write_rollouts("grpo", 1, [Group(request=request, rollouts=rollouts)])
    folder.write_evaluation("grpo", 1, "held_out", [TaskResult(task_id="add/1")])
    folder.close()
    return folder.path


def _rollout(task: Task, member: int, value: float | None) -> Rollout:
    completion = Completion(token_ids=(1,), logprobs=(-0.5,), policy_versions=(0,), finish_reason=FinishReason.STOP)
    turn = Turn(prompt_ids=(1, 2), completion=completion, message=Message.of("assistant", f"reply-{member} [bold]"))
    score = Score(scorer="exact", value=value, reason=f"because-{member}", error_kind=None if value else "timeout")
    return Rollout(
        key=RolloutKey(task_id=task.id, group="0", member=member),
        task=task,
        seed=0,
        opening=(Message.of("user", "the world begins"),),
        turns=(turn,),
        stop_reason=StopReason.COMPLETED,
        reward=Reward(value=value, scores=(score,)),
    )


def _main(*arguments: str) -> int:
    """Exit code of a command."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_help_comes_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom rlforge.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    seconds: list[float] = []
    for _ in range(5):
        start = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        end = os.times()
        seconds.append(end.children_user - start.children_user + end.children_system - start.children_system)
    assert min(seconds) < 0.6


def test_wrong_recipe_ends_with_one_message_and_exit_code_2(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("recipe", "show", str(recipe), "group_sise=4") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Did you mean 'group_size'" in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("recipe", "show", str(tmp_path / "no.yaml"), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_missing_run_ends_with_exit_code_1_and_a_suggestion(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("runs", "show", "ad", "--runs-dir", str(run.parent)) == 1
    assert "Did you mean 'add'" in capsys.readouterr().err


def test_recipe_show_tells_value_origin_and_meaning(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("recipe", "show", str(recipe), "learner.lr=2e-4", "--json") == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
    assert rows["stages.grpo.learner.lr"]["value"] == 2e-4
    assert rows["stages.grpo.learner.lr"]["origin"] == "override"
    assert rows["stages.grpo.group_size"]["origin"] == "recipe.yaml:5"
    assert rows["stages.grpo.sampling.temperature"]["origin"] == "default"
    assert rows["rewards.scorers.0.pattern"]["value"] == "^{answer}$"
    undocumented = [key for key, row in rows.items() if not row["documentation"]]
    assert all(key.rpartition(".")[2] == "type" for key in undocumented), undocumented
    assert _main("recipe", "show", str(recipe)) == 0
    assert "stages.grpo.group_size" in capsys.readouterr().out


def test_recipe_check_tells_errors_and_warnings(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("recipe", "check", str(recipe)) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    assert _main("recipe", "check", str(recipe), "group_size=1", "groups_per_step=2", "--json") == 2
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    assert [finding["severity"] for finding in report["findings"]] == ["error", "warning"]


def test_json_is_alone_on_stdout_whatever_the_users_code_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noisy.py").write_text(
        "print('imported')\n"
        "def tasks():\n    print('called')\n    yield {'prompt': '1+1=', 'answer': '2'}\n    print('done')\n"
        "def reward(rollout):\n    return 1.0\n"
    )
    path = tmp_path / "recipe.yaml"
    recipe = RECIPE.replace("{type: jsonl, path: tasks.jsonl}", "{type: python, function: noisy.py:tasks}")
    path.write_text(recipe.replace('{type: regex, pattern: "^{answer}$"}', "{type: python, function: noisy.py:reward}"))
    assert _main("recipe", "check", str(path), "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["findings"] == []
    assert err.split() == ["imported", "called", "done"]
    assert _main("recipe", "check", str(path)) == 0
    assert "called" not in capsys.readouterr().out


def test_train_refuses_what_the_doctor_refuses_before_a_folder_is_made(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main("train", str(recipe), f"runs_dir={recipe.parent / 'runs'}", "group_size=1") == 2
    assert "zero advantage under grpo" in capsys.readouterr().err
    assert not (recipe.parent / "runs").exists()


def test_train_wants_a_recipe_or_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("train") == 2
    assert "name a recipe, or a run to go on with (--resume RUN)" in capsys.readouterr().err


def test_run_that_goes_on_takes_nothing_beside_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("train", "--resume", str(run), "learner.lr=1", "seed=2", "--dry-run") == 2
    assert "leave out learner.lr=1, seed=2, --dry-run" in capsys.readouterr().err


def test_train_refuses_an_unknown_stage_before_a_folder_is_made(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main("train", str(recipe), f"runs_dir={recipe.parent / 'runs'}", "--stage", "grop") == 2
    assert "no stage 'grop'. Did you mean 'grpo'" in capsys.readouterr().err
    assert not (recipe.parent / "runs").exists()


def test_runs_list_and_show_read_the_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("runs", "list", "--runs-dir", str(run.parent), "--json") == 0
    [row] = json.loads(capsys.readouterr().out)["runs"]
    assert (row["name"], row["status"], row["step"], row["accuracy"]) == ("add", "stopped", 1, 0.25)
    assert _main("runs", "show", str(run)) == 0
    assert "reward/mean 1" in capsys.readouterr().out
    assert _main("runs", "list", "--runs-dir", str(run.parent)) == 0
    assert "stopped" in capsys.readouterr().out


def test_worst_rollouts_come_with_scores_and_reasons(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("runs", "rollouts", str(run), "--step", "1", "--worst", "1") == 0
    out = capsys.readouterr().out
    assert "reply-0 [bold]" in out
    assert "because-0" in out
    assert out.index("1+1=") < out.index("the world begins") < out.index("reply-0")
    assert "reply-1" not in out
    assert _main("runs", "rollouts", str(run), "--unscored", "--json") == 0
    [rollout] = json.loads(capsys.readouterr().out)["rollouts"]
    assert (rollout["replies"], rollout["reward"]) == (["reply-3 [bold]"], None)


def test_more_of_the_best_than_there_are_shows_all_that_are_scored(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main("runs", "rollouts", str(run), "--best", "4", "--json") == 0
    assert [rollout["reward"] for rollout in json.loads(capsys.readouterr().out)["rollouts"]] == [2.0, 1.0, 0.0]
    assert _main("runs", "rollouts", str(run), "--worst", "-1") == 2


def test_stage_without_rollouts_is_told_which_have_some(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("runs", "rollouts", str(run), "--stage", "grop") == 1
    assert "no rollouts of stage 'grop'. Did you mean 'grpo'? Stages with rollouts: grpo" in capsys.readouterr().err


def test_step_without_rollouts_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("runs", "rollouts", str(run), "--step", "7") == 1
    assert "no rollouts of step 7" in capsys.readouterr().err


def test_unknown_bench_is_refused_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main("bench", "lern") == 2
    assert "Did you mean 'learn'" in capsys.readouterr().err


def test_reading_a_run_does_not_disturb_its_writer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    time.sleep(0.01)
    assert _main("runs", "show", str(run)) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_reward_check_tells_outcomes_and_fails_when_some_stay_unscored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function = tmp_path / "reward.py"
    function.write_text("def reward(rollout):\n    return 1.0 if rollout.text == '2' else 1 / 0\n")
    rollouts = tmp_path / "rollouts.jsonl"
    rollouts.write_text('{"prompt": "1+1=", "reply": "2"}\n{"prompt": "1+1=", "reply": "3"}\n')
    assert _main("reward", "check", f"{function}:reward", "--on", str(rollouts), "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["rollouts"], report["scored"], report["mean"]) == (2, 1, 1.0)


def test_reward_check_takes_the_settings_that_a_recipe_would_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function = tmp_path / "reward.py"
    function.write_text("def reward(rollouts, bonus):\n    return [len(rollouts) + bonus for _ in rollouts]\n")
    rollouts = tmp_path / "rollouts.jsonl"
    rollouts.write_text('{"prompt": "1+1=", "reply": "2"}\n{"prompt": "1+1=", "reply": "3"}\n')
    command = ("reward", "check", f"{function}:reward", "--on", str(rollouts))
    assert _main(*command, "batch=true", "options.bonus=0.5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["mean"] == 2.5
    assert _main(*command, "batsh=true") == 2
    assert _main(*command, "batch=true", "batch.size=1") == 2
    assert "unknown key 'batsh'. Did you mean 'batch'" in capsys.readouterr().err
