"""However a run ends, it leaves no process, no shared memory and no Ray folder; a dead part is told with its words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rlforge.bench.resume import Trial
from rlforge.cluster.ray_folder import sweep_ray_folders
from rlforge.runlog.folder import RunFolder
from tests.integration.family import Family, end, until

pytestmark = pytest.mark.timeout(900)
ON_TRANSFORMERS = "generators.policy={type: transformers, threads: 1}"
"""Starts sooner than vLLM, where the test is about something else."""


def test_success_leaves_nothing(truth: RunFolder, left_by_success: list[str]) -> None:
    assert truth.status == "finished"
    assert left_by_success == []


def test_a_private_cluster_listens_on_loopback_only(truth: RunFolder, listened_at: set[str]) -> None:
    assert truth.status == "finished"
    assert listened_at
    assert listened_at <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.slow
def test_a_reward_function_that_always_raises_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    (tmp_path / "files.py").write_text(
        (tmp_path / "files.py").read_text() + "\ndef broken(rollout):\n    raise KeyError('no such judge')\n"
    )
    driver = trial.start("broken", "rewards.scorers.0.function=files.py:broken", ON_TRANSFORMERS)
    family = Family(driver)
    try:
        until(trial, "broken", family, 0, "evaluate")
        assert driver.wait(60) == 1
        assert family.left_after(15) == []
    finally:
        end(family)
    assert "no such judge" in trial.log("broken")
    assert "max_unscored" in trial.log("broken")
    assert [event.kind for event in trial.run("broken").events.read()][-1] == "failed"


@pytest.mark.slow
def test_a_ray_that_is_not_up_in_time_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    driver = trial.start("late", "cluster.start_deadline_s=0.3")
    family = Family(driver)
    try:
        give_up = time.monotonic() + 90
        while driver.poll() is None and time.monotonic() < give_up:
            family.look()
            time.sleep(0.01)
        assert driver.poll() == 1, trial.log("late")
        assert family.left_after(15) == []
    finally:
        end(family)
    assert "waited 0.3 s for Ray to start" in trial.log("late")


def test_a_killed_engine_is_told_within_ten_seconds(tmp_path: Path) -> None:
    told_of_death(Trial(tmp_path), "EngineCore", "generator 'policy' 0")


@pytest.mark.slow
def test_a_killed_learner_is_told_within_ten_seconds(tmp_path: Path) -> None:
    told_of_death(Trial(tmp_path), "LearnerActor", "learner", ON_TRANSFORMERS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("actor", "name"),
    [("GeneratorActor", "generator 'policy' 0"), ("RouterActor", "reward router"), ("WorkerActor", "rollout worker 0")],
)
def test_any_other_killed_part_is_told_within_ten_seconds(tmp_path: Path, actor: str, name: str) -> None:
    told_of_death(Trial(tmp_path), actor, name, *([] if "Generator" in actor else [ON_TRANSFORMERS]))


def told_of_death(trial: Trial, victim: str, name: str, *overrides: str) -> None:
    """Kill a process by its title; the run must name the part, end with status 1 and leave nothing."""
    driver = trial.start("bereft", "stages.grpo.steps=500", *overrides)
    family = Family(driver)
    try:
        until(trial, "bereft", family, 2, "collect", "learn")
        family.named(victim).kill()
        began = time.monotonic()
        while "died" not in trial.log("bereft") and time.monotonic() < began + 30:
            time.sleep(0.05)
        told_after = time.monotonic() - began
        assert driver.wait(60) == 1, trial.log("bereft")
        assert family.left_after(15) == []
    finally:
        end(family)
    said = trial.log("bereft")
    assert f"{name}" in said
    assert "last words" in said
    assert told_after < 10, said


def test_folders_of_killed_drivers_are_swept_and_others_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive, foreign = (tmp_path / f"rlforge-ray-{name}" for name in ("999999999-ab", "1-ab", "elsewhere"))
    for folder in (dead, alive, foreign):
        folder.mkdir()
    assert sweep_ray_folders() == [dead]
    assert alive.exists()
    assert foreign.exists()
