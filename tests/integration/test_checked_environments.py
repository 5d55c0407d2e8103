"""The environments that come with rlforge keep the whole protocol, as `rlforge check` sees it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator

import pytest

from rlforge.cli import main
from tests.warehouse import FOLDER, node_with_packages

TOKEN = "a-token-of-the-tests"


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """What `rlforge check environment` says is broken, and how; its exit code is what it says."""
    with pytest.raises(SystemExit) as exit:
        main(["check", "environment", *words, "--seconds", "0.3", "--worlds", "4", "--json"])
    said = json.loads(capsys.readouterr().out)
    broken = {each["name"]: each["told"] for each in said["findings"] if each["outcome"] == "failed"}
    assert exit.value.code == int(bool(broken))
    assert sum(each["outcome"] == "passed" for each in said["findings"]) >= 10
    return broken


@pytest.mark.parametrize(
    "name",
    ["pick_and_place:PickAndPlace", pytest.param("code_repair:CodeRepair", marks=pytest.mark.slow)],
)
def test_an_environment_in_python_passes_every_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(capsys, f"python:{name}") == {}


@pytest.fixture
def warehouse() -> Generator[str]:
    """The address of the warehouse in Node.js."""
    environment = {**os.environ, "PORT": "0", "TOKEN": TOKEN}
    command = [node_with_packages(), "server.js"]
    with subprocess.Popen(command, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()
            server.communicate(timeout=15)


def test_the_environment_in_javascript_passes_every_check(
    warehouse: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_TOKEN", TOKEN)
    assert failed(capsys, warehouse, "--token", "env:WAREHOUSE_TOKEN") == {}
