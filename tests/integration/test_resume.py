"""A driver killed with `kill -9` and gone on with ends where the undisturbed run ends, to the last bit.

Two of the ten kills of `rlforge bench resume`, on Ray and vLLM.
"""

from __future__ import annotations

import pytest

from rlforge.bench.resume import GROUPS, PHASES, Trial, deterministic, fingerprint, ledger, plan_of_ten
from rlforge.runlog.folder import RunFolder
from tests.integration.conftest import SIX_STEPS
from tests.integration.family import Family, end, until

pytestmark = pytest.mark.timeout(900)
PLAN = [("optimizer", 3), ("checkpoint", 4)]


def test_killed_twice_and_resumed_gives_the_same_bits_and_leaves_nothing(trial: Trial, truth: RunFolder) -> None:
    for phase, step in PLAN:
        driver = trial.start("killed", SIX_STEPS)
        family = Family(driver)
        try:
            until(trial, "killed", family, step - 1, "collect")
            kill = trial.strike(driver, "killed", phase, step)
            assert kill.hit, kill
            assert trial.run("killed").status == "stopped"
            assert family.left_after(15, folder=False) == []
        finally:
            end(family)
    run = trial.finish("killed")
    assert family.left() == [], "the next run sweeps the folder of a killed Ray"
    assert deterministic(run) == deterministic(truth)
    assert fingerprint(run.resolve("grpo/final").path) == fingerprint(truth.resolve("grpo/final").path)
    ledger(run).check(0, 6 * GROUPS)
    assert not list(run.path.rglob(".tmp-*"))


def test_the_bench_kills_in_every_phase_twice() -> None:
    plan = list(plan_of_ten())
    assert sorted(phase for phase, _ in plan) == sorted([*PHASES, *PHASES])
    assert [step for _, step in plan] == sorted({step for _, step in plan})
