"""The scorer that tests the code of a reply."""

import pytest

from rlforge.errors import ConfigError, SandboxError
from rlforge.rewards import asking, unit_tests
from rlforge.rewards.asking import Asked
from rlforge.rewards.unit_tests import UnitTestsScorer, extract
from rlforge.sandbox.programs import Isolation
from tests.rollouts import rollout

TESTS = "def test_a():\n    assert double(2) == 4\n\ndef test_b():\n    assert double(0) == 0\n"
RIGHT = "First try:\n```python\nx = 1\n```\nBetter:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
HANGS_AND_PRINTS = [("while True: pass", 30), ("print(1)", 1)]
HALF = "```\ndef double(x):\n    return x * x * x\n```"


async def scored(reply, tests=TESTS, **settings):
    scorer = UnitTestsScorer(UnitTestsScorer.Config.parse({"type": "unit_tests", **settings}))
    await scorer.start()
    [score] = await scorer.score([rollout(reply, info={"tests": tests})])
    await scorer.close()
    return score


def test_code_is_taken_from_the_block_that_the_recipe_names():
    assert extract(RIGHT, "last_block") == "def double(x):\n    return 2 * x\n"
    assert extract(RIGHT, "first_block") == "x = 1\n"
    assert extract("no block", "last_block") is None
    assert extract("no block", "whole") == "no block"


async def test_value_is_the_share_of_tests_passed_or_all_or_nothing():
    assert (await scored(RIGHT)).value == 1.0
    half = await scored(HALF)
    assert half.value == 0.5
    assert half.components == {"tests_passed": 1.0, "tests_total": 2.0}
    assert half.reason.startswith("1 of 2 tests passed; test_a: AssertionError")
    assert (await scored(HALF, all_or_nothing=True)).value == 0.0


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import os; os._exit(0)",
        "x = bytearray(1 << 40)",
        "def double(x",
        "while True: print('x' * 9999)",
    ],
)
async def test_faults_of_the_code_are_scored_as_failures(code):
    score = await scored(f"```python\n{code}\n```", timeout_s=2.0)
    assert (score.value, score.error_kind) == (0.0, None)


async def test_reply_without_code_scores_nothing_and_says_so():
    score = await scored("I cannot.")
    assert score.value == 0.0
    assert "no fenced block" in score.reason


@pytest.mark.parametrize("tests", ["def test_(", "x = 1", 7, [1], ["assert double(lambda: 1)"], [{"stdin": "1"}]])
async def test_tests_at_fault_leave_the_rollout_unscored(tests):
    score = await scored(RIGHT, tests)
    assert (score.value, score.error_kind, score.retryable) == (None, "malformed", False)
    assert "addition/0" in score.reason


def test_longest_that_a_rollout_may_take_grows_with_its_cases():
    config = UnitTestsScorer.Config.parse({"type": "unit_tests", "timeout_s": 3})
    cases = [{"stdin": "", "stdout": "1"}] * 16
    assert config.longest_s(rollout(RIGHT, info={"tests": cases})) == 48
    assert [config.longest_s(rollout(RIGHT, info={"tests": tests})) for tests in (TESTS, [TESTS] * 9, None, 7)] == [
        3
    ] * 4


async def test_program_that_hangs_in_every_case_is_scored_and_so_is_its_neighbour(monkeypatch):
    monkeypatch.setattr(asking, "_SLACK_S", 0.0)
    monkeypatch.setattr(asking, "_RESTART_S", 1.0)
    config = UnitTestsScorer.Config.parse({"type": "unit_tests", "timeout_s": 2, "concurrency": 1})
    cases = [{"stdin": "", "stdout": "1"}] * 30
    judged = [rollout(f"```\n{code}\n```", info={"tests": cases[:many]}) for code, many in HANGS_AND_PRINTS]
    scores = await Asked(config, 8).scores(judged)
    assert [(score.value, score.error_kind) for score in scores] == [(0.0, None), (1.0, None)]


async def test_task_without_tests_is_unscored():
    assert (await scored(RIGHT, "")).error_kind == "no_tests"


async def test_fault_of_the_sandbox_is_unscored_and_may_pass(monkeypatch):
    async def fails(*arguments):
        raise SandboxError("no memory for a namespace")

    monkeypatch.setattr(unit_tests, "run_tests", fails)
    score = await scored(RIGHT)
    assert (score.value, score.error_kind, score.retryable) == (None, "sandbox", True)


async def test_weak_isolation_is_refused_where_a_strong_one_is_required(monkeypatch):
    async def weak():
        return Isolation.LIMITS

    monkeypatch.setattr(unit_tests, "isolation", weak)
    with pytest.raises(ConfigError, match="require_isolation"):
        await scored(RIGHT, require_isolation=True)
