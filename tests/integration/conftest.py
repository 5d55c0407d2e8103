"""One uninterrupted run on Ray and vLLM, which the tests of resuming and of determinism compare with."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from rlforge.bench.resume import Trial
from rlforge.runlog.folder import RunFolder
from tests.integration.family import Family, end, until

SIX_STEPS = "stages.grpo.steps=6"


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A folder with the tiny recipe."""
    return Trial(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="session")
def left_by_success() -> list[str]:
    """What the uninterrupted run left behind; filled by `truth`."""
    return []


@pytest.fixture(scope="session")
def listened_at() -> set[str]:
    """The addresses at which the uninterrupted run accepted connections; filled by `truth`."""
    return set()


@pytest.fixture(scope="session")
def truth(trial: Trial, left_by_success: list[str], listened_at: set[str]) -> Generator[RunFolder]:
    """A run of six steps that nobody disturbed."""
    driver = trial.start("truth", SIX_STEPS)
    family = Family(driver)
    try:
        until(trial, "truth", family, 2, "collect", "learn")
        listened_at |= family.listening()
        assert driver.wait(400) == 0, trial.log("truth")
        left_by_success += family.left_after(5)
        yield trial.run("truth")
    finally:
        end(family)
