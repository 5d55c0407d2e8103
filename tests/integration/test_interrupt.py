"""Ctrl-C and SIGTERM on Ray and vLLM: once finishes the step, twice ends at once, and nothing is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from rlforge.bench.resume import GROUPS, Trial, deterministic, fingerprint, ledger
from rlforge.runlog.folder import RunFolder
from tests.integration.conftest import SIX_STEPS
from tests.integration.family import Family, end, until

pytestmark = pytest.mark.timeout(900)


def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint_and_nothing_else(trial: Trial) -> None:
    stopped = interrupted(trial, "interrupted", "stages.grpo.steps=60")
    assert 3 <= stopped.checkpoints.list("grpo")[-1].step < 60
    assert stopped.status == "interrupted"


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bits(trial: Trial, truth: RunFolder) -> None:
    interrupted(trial, "continued")
    run = trial.finish("continued")
    assert run.status == "finished"
    assert deterministic(run) == deterministic(truth)
    assert fingerprint(run.resolve("grpo/final").path) == fingerprint(truth.resolve("grpo/final").path)
    ledger(run).check(0, 6 * GROUPS)


def interrupted(trial: Trial, name: str, steps: str = SIX_STEPS) -> RunFolder:
    """A run that hears Ctrl-C in its third step, or soon after it."""
    driver = trial.start(name, steps)
    family = Family(driver)
    try:
        until(trial, name, family, 3, "collect", "learn")
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the whole group hears it
        assert driver.wait(120) == 130, trial.log(name)
        assert family.left_after(15) == []
    finally:
        end(family)
    return trial.run(name)


@pytest.mark.slow
def test_sigterm_asks_and_ctrl_c_after_it_ends_at_once(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    slow_down(trial)
    driver = trial.start("twice", SIX_STEPS)
    family = Family(driver)
    try:
        until(trial, "twice", family, 1, "collect")
        time.sleep(0.5)
        os.kill(driver.pid, signal.SIGTERM)
        time.sleep(0.5)
        assert driver.poll() is None, "the first signal lets the step finish"
        began = time.monotonic()
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.wait(60) == 130, trial.log("twice")
        assert time.monotonic() - began < 25
        assert family.left_after(15) == []
    finally:
        end(family)
    assert trial.run("twice").checkpoints.list("grpo") == []
    assert trial.run("twice").status != "running"


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)], ids=["sigterm", "twice"])
def test_other_ways_to_ask_leave_nothing_either(tmp_path: Path, signals: tuple[signal.Signals, ...]) -> None:
    trial = Trial(tmp_path)
    driver = trial.start("asked", SIX_STEPS)
    family = Family(driver)
    try:
        until(trial, "asked", family, 2, "collect")
        for number in signals:
            os.killpg(driver.pid, number)
            time.sleep(0.05)
        assert driver.wait(60) == 130, trial.log("asked")
        assert family.left_after(15) == []
    finally:
        end(family)


def slow_down(trial: Trial) -> None:
    """Let each rollout take long to score in training (not in the evaluation before it)."""
    slow = "\n    import time\n    time.sleep(0.0 if len(rollout.text) < 9 else 5.0)\n"
    path = trial.folder / "files.py"
    path.write_text(path.read_text().replace("def digits(rollout):\n", f"def digits(rollout):{slow}"))
