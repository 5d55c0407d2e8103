"""An environment that keeps its promises passes every check; each broken promise fails the one named for it."""

from __future__ import annotations

from typing import Any

import pytest

from rlforge.checks.environment.check import PROPERTIES, EnvironmentChecks, check_environment
from rlforge.checks.properties import Outcome
from rlforge.checks.report import Report
from rlforge.transports.config import EndpointConfig
from rlforge.wire.pb.environment_pb2_grpc import add_EnvironmentServicer_to_server
from tests.checks.broken.environments import BROKEN, ClingsToItsWorlds, Right, StepsAgain, TakesItsTime
from tests.checks.broken.http_environments import BROKEN as BROKEN_OVER_HTTP
from tests.checks.broken.http_environments import RightOverHttp, listening_over_http
from tests.checks.broken.stray import listening

TOKEN = "open sesame"
EXAMINED = [*BROKEN.items(), (ClingsToItsWorlds, "a dropped connection frees its worlds")]


async def checked(server: type[Right], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Report:
    monkeypatch.setenv("CHECK_TOKEN", TOKEN)
    servicer = server()
    servicer.token = TOKEN
    async with listening(servicer, add_EnvironmentServicer_to_server) as address:
        config = EndpointConfig(address=address, token="env:CHECK_TOKEN")
        quick = {"patience_s": 1.0, "seconds": 0.2, "worlds": 4} | settings
        return await check_environment(config, EnvironmentChecks.parse(quick))


async def test_a_right_environment_passes_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await checked(Right, monkeypatch, patience_s=10.0)
    outcomes = {finding.name: (finding.outcome, finding.told) for finding in report.findings}
    slow = outcomes.pop("a step takes no longer than it may")
    assert {name: told for name, told in outcomes.items() if told[0] is not Outcome.PASSED} == {}
    assert slow[0] is Outcome.SKIPPED, "steps too fast to overrun a limit cannot be examined"
    assert report.exit_code == 0
    assert report.loads[-1].per_s("steps") > 0
    assert report.advice


@pytest.mark.parametrize(("server", "lacks"), EXAMINED, ids=[f"{s.__name__}: {name}" for s, name in EXAMINED])
async def test_a_broken_environment_fails_the_check_of_what_it_lacks(
    server: type[Right], lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = await checked(server, monkeypatch, only=lacks)
    assert report.named(Outcome.FAILED) == [lacks]
    assert report.exit_code == 1


async def checked_over_http(server: type[RightOverHttp], lacks: str, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setenv("CHECK_TOKEN", TOKEN)
    served = server()
    served.token = TOKEN
    async with listening_over_http(served) as address:
        config = EndpointConfig(address=address, token="env:CHECK_TOKEN")
        quick = {"patience_s": 10.0, "seconds": 0.2, "worlds": 4, "only": lacks}
        return await check_environment(config, EnvironmentChecks.parse(quick))


@pytest.mark.parametrize(
    ("server", "lacks"), BROKEN_OVER_HTTP.items(), ids=[server.__name__ for server in BROKEN_OVER_HTTP]
)
async def test_a_broken_environment_over_http_fails_the_check_of_what_it_lacks_and_a_right_one_passes_it(
    server: type[RightOverHttp], lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = await checked_over_http(RightOverHttp, lacks, monkeypatch)
    assert right.named(Outcome.PASSED) == [lacks]
    report = await checked_over_http(server, lacks, monkeypatch)
    assert report.named(Outcome.FAILED) == [lacks]
    assert report.exit_code == 1


def test_every_property_has_a_server_that_lacks_it() -> None:
    assert {each.name for each in PROPERTIES} == {name for _, name in EXAMINED}


async def test_a_slow_step_that_keeps_its_limit_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    class KeepsItsTime(TakesItsTime):
        async def work(self, limit_s: float) -> None:
            if limit_s and limit_s < 0.15:
                raise TimeoutError
            await super().work(limit_s)

    report = await checked(KeepsItsTime, monkeypatch, only="a step takes", patience_s=10.0)
    assert report.named(Outcome.PASSED) == ["a step takes no longer than it may"]


async def test_one_broken_promise_accuses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await checked(StepsAgain, monkeypatch, patience_s=10.0)
    assert report.named(Outcome.FAILED) == ["a resent step is answered from memory"]
