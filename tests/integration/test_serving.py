"""`rlforge serve` and `rlforge.serve` as processes of their own: what a customer writes, SIGTERM, killed clients."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from rlforge.errors import EndpointError, EndpointUnavailable
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment, connect_reward
from tests.rollouts import rollout
from tests.worlds import say, start, until_raises

REWARD = """
import rlforge

def reward(rollout):
    return {"correct": rollout.text.strip().endswith(rollout.task.answer)}

rlforge.serve(reward, "ADDRESS", token="env:REWARD_TOKEN")
"""
SIMULATOR = """
import rlforge

class Arm:
    def reset(self, task, seed):
        self.left = seed
        return f"The box is {self.left} cm away. Move how far?"

    def step(self, action):
        self.left -= int(action)
        return f"{self.left} cm left.", float(self.left == 0), self.left <= 0, False, {}

rlforge.serve(Arm, "ADDRESS", worlds=64)
"""


@asynccontextmanager
async def running(*command, env=None):
    """A process that serves, and its address from its first line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stderr=asyncio.subprocess.PIPE, env=os.environ | (env or {})
    )
    try:
        async with asyncio.timeout(60):
            line = await process.stderr.readline()
        yield process, json.loads(line)["address"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def lines_of_their_own(text):
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_reward_endpoint_with_a_token_is_six_lines(tmp_path, scheme, monkeypatch):
    assert len(lines_of_their_own(REWARD)) <= 6
    monkeypatch.setenv("REWARD_TOKEN", "open-sesame")
    (tmp_path / "judge.py").write_text(REWARD.replace("ADDRESS", f"{scheme}://127.0.0.1:0"))
    async with running(str(tmp_path / "judge.py")) as (process, address):
        endpoint = connect_reward(EndpointConfig(address=address, token="env:REWARD_TOKEN"))
        scores = await endpoint.score({"1": rollout("46"), "2": rollout("47")}, request_id="1", timeout_s=10)
        assert (scores["1"].value, scores["2"].value) == (1.0, 0.0)
        await endpoint.close()
        process.send_signal(signal.SIGTERM)
        said = (await asyncio.wait_for(process.stderr.read(), 10)).decode()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert "open-sesame" not in said
        assert [json.loads(line)["event"] for line in said.splitlines()] == ["scored", "draining", "stopped"]


HANGS = """
import sys, time

def reward(rollout):
    if rollout.text == "exit":
        sys.exit(3)
    if rollout.text == "hang":
        time.sleep(1000)
    return 1.0
"""


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_reward_that_exits_or_hangs_holds_neither_the_others_nor_the_end_of_the_server(tmp_path, scheme):
    (tmp_path / "hangs.py").write_text(HANGS)
    serve = (
        "-c",
        "from rlforge.cli import main; main()",
        "serve",
        "reward",
        f"{tmp_path}/hangs.py:reward",
        "--drain",
        "1",
    )
    async with running(*serve, "--at", f"{scheme}://127.0.0.1:0") as (process, address):
        endpoint = connect_reward(EndpointConfig(address=address))
        items = {reply: rollout(reply) for reply in ("exit", "hang", "46")}
        scores = await endpoint.score(items, request_id="1", timeout_s=2)
        assert {reply: (score.value, score.error_kind) for reply, score in scores.items()} == {
            "exit": (None, "exception"),
            "hang": (None, "timeout"),
            "46": (1.0, None),
        }
        waiting = asyncio.create_task(endpoint.score({"1": rollout("hang")}, request_id="2", timeout_s=60))
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        with pytest.raises(EndpointError):
            await waiting
        await endpoint.close()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_simulator_is_twelve_lines(tmp_path, scheme):
    assert len(lines_of_their_own(SIMULATOR)) <= 12
    (tmp_path / "arm.py").write_text(SIMULATOR.replace("ADDRESS", f"{scheme}://127.0.0.1:0"))
    async with running(str(tmp_path / "arm.py")) as (_, address):
        environment = connect_environment(EndpointConfig(address=address))
        assert (await environment.describe()).max_worlds == 64
        world, first = await environment.open(start(seed=12))
        assert first.messages[0].text == "The box is 12 cm away. Move how far?"
        assert not (await world.step(say("5"))).over
        shown = await world.step(say("7"))
        assert (shown.reward, shown.terminated) == (1.0, True)
        await environment.close()


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_sigterm_lets_worlds_end_and_then_the_server(tmp_path, scheme):
    (tmp_path / "arm.py").write_text(SIMULATOR.replace("rlforge.serve", "0 and rlforge.serve"))
    target = f"{tmp_path}/arm.py:Arm"
    command = ["-c", "from rlforge.cli import main; main()", "serve", "environment", target]
    command += ["--at", f"{scheme}://127.0.0.1:0", "--drain", "20"]
    async with running(*command) as (process, address):
        environment = connect_environment(EndpointConfig(address=address))
        world, _ = await environment.open(start(seed=9))
        process.send_signal(signal.SIGTERM)

        async def another():
            await (await environment.open(start(seed=9)))[0].close()

        await until_raises(EndpointUnavailable, another)
        assert not (await world.step(say("4"))).over
        assert process.returncode is None
        assert (await world.step(say("5"))).terminated
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await environment.close()


CLIENT = """
import asyncio, os
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from tests.worlds import say, start

async def main():
    environment = connect_environment(EndpointConfig(address="ADDRESS"))
    worlds = [(await environment.open(start(seed=9)))[0] for _ in range(5)]
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_client_that_is_killed_frees_its_worlds_at_once(tmp_path):
    from rlforge.hosting.serve import serving
    from tests.worlds import Clockwork, until

    clockwork = Clockwork()
    async with serving(clockwork, "grpc://127.0.0.1:0") as address:
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT.replace("ADDRESS", address), stdout=asyncio.subprocess.PIPE
        )
        await asyncio.wait_for(client.stdout.readline(), 30)
        assert len(clockwork.living) == 5
        client.kill()
        await until(lambda: not clockwork.living, within_s=10)
        await client.wait()
