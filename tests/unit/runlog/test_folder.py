"""A run folder is whole at every instant."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlforge.errors import RunError
from rlforge.runlog.evaluations import TaskResult
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import RunResult, StageResult


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", "name: x\n")


def _save(folder: RunFolder, stage: str, step: int) -> None:
    with folder.checkpoint(stage, step, phase="constant", policy_version=step, metrics={"a": 1.0}) as path:
        (path / "model.safetensors").write_text(f"weights {step}")


def test_checkpoint_appears_whole_with_its_schedule_phase(folder: RunFolder) -> None:
    with folder.checkpoint("sft", 3, phase="anneal", policy_version=2, state={"position": 96}) as path:
        (path / "model").mkdir()
        (path / "model" / "weights").write_text("w")
        assert folder.latest("sft") is None
    latest = folder.latest("sft")
    assert latest is not None
    assert (latest.step, latest.phase, latest.policy_version, latest.state) == (3, "anneal", 2, {"position": 96})
    assert (latest.path / "model" / "weights").read_text() == "w"


def test_failed_save_leaves_nothing(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="disk"), folder.checkpoint("sft", 1):
        raise ValueError("disk")
    assert list((folder.path / "checkpoints" / "sft").iterdir()) == []


def test_pruning_keeps_the_newest_and_the_marked(folder: RunFolder) -> None:
    for step in range(1, 6):
        _save(folder, "sft", step)
    folder.checkpoints.mark("sft", "best", 1)
    assert folder.checkpoints.prune("sft", 2) == [2, 3]
    assert [c.step for c in folder.checkpoints.list("sft")] == [1, 4, 5]


def test_pruning_keeps_the_steps_that_are_wanted(folder: RunFolder) -> None:
    for step in (1, 2, 3, 4):
        _save(folder, "sft", step)
    assert folder.checkpoints.prune("sft", 1, wanted={2}) == [1, 3]


def test_checkpoints_are_found_by_name(folder: RunFolder) -> None:
    for step in (1, 20):
        _save(folder, "sft", step)
    assert folder.resolve("sft").step == 20
    folder.checkpoints.mark("sft", "final", 1)
    assert folder.resolve("sft").step == 1
    assert folder.resolve("sft/final").step == 1
    assert folder.resolve("sft/20").step == folder.resolve("sft/step_000020").step == 20
    with pytest.raises(RunError, match="Known for 'sft': final, step_000001, step_000020"):
        folder.resolve("sft/best")
    with pytest.raises(RunError, match="Did you mean 'sft'"):
        folder.resolve("sff/final")


def test_saving_a_step_again_replaces_it(folder: RunFolder) -> None:
    _save(folder, "sft", 1)
    with folder.checkpoint("sft", 1) as path:
        (path / "other").touch()
    assert sorted(p.name for p in folder.resolve("sft/1").path.iterdir()) == ["meta.json", "other"]


def test_second_writer_is_refused_and_a_reader_is_not(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlforge.runlog.folder._LOCK_PATIENCE_S", 0.0)
    with pytest.raises(RunError, match=f"written by process {os.getpid()}"):
        RunFolder.resume(folder.path)
    assert RunFolder.open(folder.path).status == "running"
    folder.close()
    assert RunFolder.open(folder.path).status == "stopped"
    RunFolder.resume(folder.path).close()


def test_a_run_is_never_overwritten(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="--resume"):
        RunFolder.create(folder.path, "name: y\n")


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        RunFolder.open(tmp_path)


def test_going_back_forgets_what_came_after(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        _save(folder, "grpo", step)
        folder.metrics.append("grpo", step, {})
        folder.write_rollouts("grpo", step, [])
        folder.write_evaluation("grpo", step, "held_out", [TaskResult(task_id="t")])
    folder.checkpoints.mark("grpo", "final", 3)
    folder.rewind("grpo", 2)
    assert [r.step for r in folder.metrics.records()] == [1, 2]
    assert [c.step for c in folder.checkpoints.list("grpo")] == [1, 2]
    assert folder.checkpoints.marked("grpo", "final") is None
    assert folder.rollout_steps("grpo") == [1, 2]
    assert folder.evaluation("grpo", 2, "held_out") == [TaskResult(task_id="t")]
    assert [event.kind for event in folder.events.read()] == ["started", "rewound"]


def test_going_back_spares_a_stage_whose_name_goes_on_with_a_number(folder: RunFolder) -> None:
    folder.write_rollouts("grpo-1", 2, [])
    folder.write_evaluation("grpo-1", 2, "held_out", [TaskResult(task_id="t")])
    folder.rewind("grpo", -1)
    assert folder.rollout_steps("grpo-1") == [2]
    assert folder.evaluation("grpo-1", 2, "held_out") == [TaskResult(task_id="t")]


def test_result_comes_back_equal(folder: RunFolder) -> None:
    stage = StageResult(name="sft", type="sft", steps=3, before={"a": 0.1}, after={"a": 0.9}, seconds=2.0)
    result = RunResult(run=str(folder.path), stages=(stage,), seconds=3.0)
    folder.write_result(result)
    folder.close()
    assert folder.result() == result
    assert folder.status == "finished"


_WRITER = """
import sys, time
from pathlib import Path
from rlforge.runlog.folder import RunFolder
folder = RunFolder.create(Path(sys.argv[1]), "name: x")
folder.metrics.append("sft", 1, {"a": 1.0})
with folder.checkpoint("sft", 1) as path:
    (path / "weights").write_text("1")
with folder.checkpoint("sft", 2) as path:
    (path / "weights").write_text("half")
    with folder.metrics._lines.path.open("ab") as file:
        file.write(b'{"schema": 1, "sta')
    print("ready", flush=True)
    time.sleep(60)
"""


def test_killed_writer_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.send_signal(signal.SIGKILL)
    folder = RunFolder.resume(tmp_path / "run")
    assert [event.kind for event in folder.events.read()] == ["started", "resumed", "swept", "torn_line"]
    latest = folder.latest("sft")
    assert latest is not None
    assert latest.step == 1
    assert [path.name for path in (folder.path / "checkpoints" / "sft").iterdir()] == ["step_000001"]
    assert [record.step for record in folder.metrics.records()] == [1]
    folder.close()
