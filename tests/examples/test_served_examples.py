"""Two real steps of the examples whose environment or reward is served by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rlforge.runlog.folder import RunFolder
from tests.warehouse import FOLDER, node_with_packages

pytestmark = pytest.mark.timeout(600)
EXAMPLES = Path(__file__).parents[2] / "examples"
RLFORGE = Path(sys.executable).parent / "rlforge"
TOKEN = "a-token-that-nobody-may-read"
LIGHT = ("generators.policy={type: transformers, threads: 1}", "cluster.type=in_process")
"""For examples about an endpoint, in which vLLM and Ray have no part; 01, 02, 04 and 07 are run on both."""


def test_reward_endpoints_over_grpc_and_http_are_asked_and_their_token_stays_out_of_the_run(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    addresses = [f"grpc://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"]
    with ExitStack() as served:
        for address in addresses:
            served.enter_context(process(str(EXAMPLES / "03_reward_endpoint" / "endpoint.py"), address))
        overrides = [f"rewards.scorers.{place}.address={address}" for place, address in enumerate(addresses)]
        folder = dry_run("03_reward_endpoint", tmp_path, *overrides, *LIGHT)
    rollouts = [one for step in (1, 2) for one in folder.rollouts("grpo", step)]
    assert {score.scorer for one in rollouts for score in one.reward.scores} == {"over_grpc", "over_http"}
    assert all(one.scored for one in rollouts)
    assert folder.metrics.records("grpo")[-1].metrics["scorer_over_grpc/requests"] >= 1
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_judge_is_asked_over_its_address_and_its_verdicts_are_kept(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with process(str(EXAMPLES / "05_judge" / "server.py"), str(port)):
        overrides = [
            f"rewards.scorers.0.address=http://127.0.0.1:{port}/v1",
            f"rewards.scorers.0.cache={tmp_path / 'verdicts'}",
        ]
        folder = dry_run("05_judge", tmp_path, *overrides, *LIGHT)
    rollouts = [one for step in (1, 2) for one in folder.rollouts("grpo", step)]
    assert all(one.scored and "digits are right" in one.reward.scores[0].reason for one in rollouts)
    assert list((tmp_path / "verdicts").glob("??/*.json"))


def test_worlds_over_grpc_are_played_in_and_their_rewards_are_the_rollouts(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    traces = tmp_path / "traces.jsonl"
    subprocess.run([sys.executable, "-m", "pick_and_place.traces", traces, "--count", "8"], check=True, timeout=120)
    address = f"grpc://127.0.0.1:{port}"
    with process(str(RLFORGE), "serve", "environment", "pick_and_place:PickAndPlace", "--at", address):
        overrides = [f"environments.robot.address={address}", f"stages.imitate.data.0.path={traces}"]
        overrides.append("stages.grpo.orchestrator.on_long_reply=step")  # a model of two steps never ends a reply
        folder = dry_run("02_robot_over_grpc", tmp_path, *overrides)
    rollouts = [one for step in (1, 2) for one in folder.rollouts("grpo", step)]
    assert all(one.scored and len(one.turns) == 4 for one in rollouts)
    seen = [turn.observation[0].text.removeprefix("unclear; ") for one in rollouts for turn in one.turns]
    assert all(text.startswith(("up ", "down ")) for text in seen)


def test_a_warehouse_in_another_language_is_played_in_and_pays_for_it(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    traces, address = tmp_path / "traces.jsonl", f"grpc://127.0.0.1:{port}"
    write = [sys.executable, str(EXAMPLES / "06_warehouse_js" / "traces.py"), address, str(traces), "--count", "8"]
    secrets = {**os.environ, "TOKEN": TOKEN, "PORT": str(port)}
    warehouse = subprocess.Popen([node_with_packages(), "server.js"], cwd=FOLDER, env=secrets, stdout=subprocess.PIPE)
    try:
        assert warehouse.stdout is not None
        assert b"listening" in warehouse.stdout.readline()
        subprocess.run(write, check=True, timeout=120, env=secrets)
        overrides = [f"environments.warehouse.address={address}", f"stages.imitate.data.0.path={traces}"]
        folder = dry_run("06_warehouse_js", tmp_path, *overrides, *LIGHT)
    finally:
        warehouse.kill()
        warehouse.communicate()
    rollouts = [one for step in (1, 2) for one in folder.rollouts("grpo", step)]
    assert all(one.scored and one.turns for one in rollouts)
    assert any("robot at" in turn.observation[0].text for one in rollouts for turn in one.turns if turn.observation)


def dry_run(example: str, folder: Path, *overrides: str) -> RunFolder:
    command = [str(RLFORGE), "train", "--dry-run", "--json", "--runs-dir", str(folder)]
    recipe = str(EXAMPLES / example / "recipe.yaml")
    environment = {**os.environ, "REWARD_TOKEN": TOKEN, "TOKEN": TOKEN}
    done = subprocess.run(
        [*command, recipe, *overrides], capture_output=True, text=True, timeout=560, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return RunFolder.open(Path(json.loads(done.stdout)["run"]))


@contextmanager
def process(*arguments: str) -> Generator[None]:
    environment = {**os.environ, "REWARD_TOKEN": TOKEN}
    running = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.kill()
        running.wait()
