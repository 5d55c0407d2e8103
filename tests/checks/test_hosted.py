"""What rlforge itself serves passes every check, over gRPC and HTTP, with a token and with certificates."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from rlforge.checks.environment.check import EnvironmentChecks, check_environment
from rlforge.checks.properties import Outcome
from rlforge.checks.report import Report
from rlforge.checks.reward.check import RewardChecks, check_reward
from rlforge.hosting.serve import serving
from rlforge.transports.config import EndpointConfig
from rlforge.types import Rollout, Task
from tests.certificates import Authority

TOKEN = "env:CHECK_TOKEN"


class Adding:
    """Adds numbers to one that comes from the seed; the right ones earn the reward."""

    deterministic = True

    tasks = {"train": [Task(id=f"add/{n}", messages=(), info={"actions": [str(n), str(n + 1)]}) for n in range(12)]}  # noqa: RUF012

    def reset(self, task: Task, seed: int) -> str:
        self.right, self.said = list(task.info["actions"]), list[str]()
        self.total = random.Random(seed).randrange(100)
        return f"{self.total}"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.said.append(action)
        self.total += int(action) if action.isdigit() else 0
        over = len(self.said) == 2
        return f"{self.total}", float(over and self.said == self.right), over, False, {}


class Measuring(Adding):
    """Slow steps."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        time.sleep(0.15)
        return super().step(action)


def exact(rollout: Rollout) -> float | None:
    """None where there is nothing to judge."""
    return float(rollout.text == rollout.task.answer) if rollout.turns else None


async def checked_environment(thing: Any, address: str, **settings: Any) -> Report:
    tls = settings.pop("tls", None)
    trust = {"tls": {"ca": settings.pop("ca")}} if tls else {}
    async with serving(thing, address, worlds=3, token=TOKEN, tls=tls) as real:
        config = EndpointConfig.parse({"address": real, "token": TOKEN, **trust})
        quick = {"patience_s": 10.0, "seconds": 0.3, "worlds": 3} | settings
        return await check_environment(config, EnvironmentChecks.parse(quick))


def outcomes(report: Report) -> dict[str, str]:
    """What did not pass, and why."""
    return {f"{each.outcome}: {each.name}": each.told for each in report.findings if each.outcome != Outcome.PASSED}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_TOKEN", "open sesame")


async def test_a_class_served_over_grpc_passes_every_check() -> None:
    report = await checked_environment(Adding, "grpc://127.0.0.1:0")
    assert set(outcomes(report)) == {"skipped: a step takes no longer than it may"}


async def test_a_class_served_over_http_passes_every_check() -> None:
    report = await checked_environment(Adding, "http://127.0.0.1:0")
    unseen = {"skipped: a step takes no longer than it may", "skipped: a dropped connection frees its worlds"}
    assert outcomes(report).keys() <= unseen, outcomes(report)
    assert report.loads[0].p50_s < 0.03, "the kernel must not wait for more before it sends an answer"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_slow_step_is_ended_at_its_limit(scheme: str) -> None:
    report = await checked_environment(Measuring, f"{scheme}://127.0.0.1:0", only="a step takes")
    assert outcomes(report) == {}


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_function_served_passes_every_check(scheme: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}+{n}=", "answer": str(2 * n), "reply": str(2 * n + n % 2)} for n in range(8)]
    (tmp_path / "rollouts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    async with serving(exact, f"{scheme}://127.0.0.1:0", token=TOKEN) as address:
        quick = RewardChecks(on=str(tmp_path / "rollouts.jsonl"), patience_s=10.0, seconds=0.3)
        report = await check_reward(EndpointConfig(address=address, token=TOKEN), quick)
    assert outcomes(report).keys() <= {"skipped: streams every item once"}, outcomes(report)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_server_with_a_certificate_is_checked_through_it(scheme: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    settings = {"tls": authority.issue("server"), "ca": authority.file, "only": "token"}
    report = await checked_environment(Adding, f"{scheme}://127.0.0.1:0", **settings)
    assert outcomes(report) == {}
