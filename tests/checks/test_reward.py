"""A reward endpoint that keeps its promises passes every check; each broken promise fails the one named for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlforge.checks.properties import Outcome
from rlforge.checks.report import Report
from rlforge.checks.reward.check import PROPERTIES, RewardChecks, check_reward
from rlforge.transports.config import EndpointConfig
from rlforge.wire.pb.reward_pb2_grpc import add_RewardServicer_to_server
from tests.checks.broken.rewards import BROKEN, Exact, FailsAsAWhole, ScoresFaultsZero
from tests.checks.broken.stray import listening

TOKEN = "open sesame"


@pytest.fixture
def rollouts(tmp_path: Path) -> str:
    """Sums with right and wrong replies."""
    path = tmp_path / "rollouts.jsonl"
    rows = [{"prompt": f"{n}+{n}=", "answer": str(2 * n), "reply": str(2 * n + n % 2)} for n in range(8)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


async def checked(server: type[Exact], rollouts: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Report:
    monkeypatch.setenv("CHECK_TOKEN", TOKEN)
    servicer = server()
    servicer.token = TOKEN
    async with listening(servicer, add_RewardServicer_to_server) as address:
        config = EndpointConfig(address=address, token="env:CHECK_TOKEN")
        quick = {"on": rollouts, "patience_s": 1.0, "seconds": 0.2} | settings
        return await check_reward(config, RewardChecks.parse(quick))


async def test_a_right_reward_passes_every_check(rollouts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = await checked(Exact, rollouts, monkeypatch, patience_s=10.0)
    outcomes = {finding.name: (finding.outcome, finding.told) for finding in report.findings}
    assert {name: told for name, told in outcomes.items() if told[0] is not Outcome.PASSED} == {}
    assert report.exit_code == 0
    assert report.loads[-1].per_s("items") > 0


@pytest.mark.parametrize(("server", "lacks"), BROKEN.items(), ids=[f"{s.__name__}: {n}" for s, n in BROKEN.items()])
async def test_a_broken_reward_fails_the_check_of_what_it_lacks(
    server: type[Exact], lacks: str, rollouts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = await checked(server, rollouts, monkeypatch, only=lacks)
    assert report.named(Outcome.FAILED) == [lacks]
    assert report.exit_code == 1


def test_every_property_has_a_server_that_lacks_it() -> None:
    assert {each.name for each in PROPERTIES} == {*BROKEN.values(), "a failure is not a zero"}


async def test_a_fault_that_is_scored_0_is_warned_of(rollouts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = await checked(ScoresFaultsZero, rollouts, monkeypatch, only="a failure")
    assert report.named(Outcome.WARNED) == ["a failure is not a zero"]
    assert report.exit_code == 0


async def test_what_cannot_be_shown_is_skipped_and_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await checked(Exact, "", monkeypatch, on=None, only="right answer")
    assert report.named(Outcome.SKIPPED) == ["the right answer earns more than nothing"]
    assert not report.named(Outcome.PASSED)


async def test_one_broken_promise_accuses_no_other(rollouts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = await checked(FailsAsAWhole, rollouts, monkeypatch, patience_s=10.0)
    assert report.named(Outcome.FAILED) == ["a bad item leaves the others scored"]
