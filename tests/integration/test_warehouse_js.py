"""The Node.js warehouse, which has no code of ours, is an environment like any other."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rlforge.errors import DeadlineExceeded, EndpointBroken, EndpointBusy, EndpointRefused, EndpointUnavailable
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Message, Task, ToolCall, WorldStart
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.pb import environment_pb2_grpc, types_pb2
from tests.warehouse import FOLDER, node_with_packages

TOKEN = "a-token-of-the-tests"
TASK = Task(id="warehouse/test/4", messages=(), info={"orders": 2})
SOLVE = """require('readline').createInterface({ input: process.stdin }).on('line',
  (line) => console.log(require('./solver').solve(JSON.parse(line)) ?? ''))"""


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, with the packages of the warehouse beside it."""
    return node_with_packages()


@asynccontextmanager
async def served(node: str, **settings: str) -> AsyncGenerator[str]:
    """The address of a server that runs for as long as the block."""
    env = {**os.environ, "PORT": "0", "TOKEN": TOKEN, **settings}
    server = await asyncio.create_subprocess_exec(node, "server.js", cwd=FOLDER, env=env, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        line = await asyncio.wait_for(server.stdout.readline(), 30)
        yield line.decode().split()[-1]
    finally:
        server.terminate()
        await asyncio.wait_for(server.wait(), 15)


@asynccontextmanager
async def connected(address, monkeypatch, token=TOKEN, **settings):
    monkeypatch.setenv("WAREHOUSE_TOKEN", token)
    environment = connect_environment(EndpointConfig(address=address, token="env:WAREHOUSE_TOKEN", **settings))
    try:
        yield environment
    finally:
        await environment.close()


def start(task=TASK, **more):
    return WorldStart(task=task, **{"seed": 3, **more})


def say(text):
    return Message.of("assistant", text)


def shown(observation):
    return "".join(message.text for message in observation.messages)


def test_its_own_tests_pass(node):
    done = subprocess.run([node, "--test", "test/"], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_its_lock_file_names_no_registry_and_its_server_is_short():
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    assert packages["node_modules/@grpc/grpc-js"]["integrity"].startswith("sha512-")
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert len((FOLDER / "server.js").read_text().splitlines()) <= 120


async def test_it_says_what_it_is_and_lists_its_tasks(node, monkeypatch):
    async with served(node, WORLDS="7") as address, connected(address, monkeypatch) as environment:
        spec = await environment.describe()
        assert (spec.name, spec.max_worlds, spec.deterministic) == ("warehouse_js", 7, True)
        assert spec.splits == {"train": 1000, "test": 100}
        assert [tool.name for tool in spec.tools] == ["move", "pick", "put"]
        assert spec.tools[0].parameters["properties"]["direction"]["enum"][0] == "north"
        listed = [task async for task in environment.tasks("train", 10, 3)]
        assert [(task.id, task.info) for task in listed] == [
            ("warehouse/train/10", {"orders": 2}),
            ("warehouse/train/11", {"orders": 3}),
            ("warehouse/train/12", {"orders": 1}),
        ]
        assert len([task async for task in environment.tasks("test")]) == 100
        with pytest.raises(EndpointRefused, match="no split 'tset'"):
            _ = [task async for task in environment.tasks("tset")]


async def test_the_reference_player_earns_the_whole_reward_in_many_worlds(node, monkeypatch):
    async with served(node) as address, connected(address, monkeypatch) as environment:
        tasks = [task async for task in environment.tasks("test", 0, 12)]
        player = await asyncio.create_subprocess_exec(
            node, "-e", SOLVE, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert player.stdin is not None
        assert player.stdout is not None
        worlds = [await environment.open(start(task, seed=seed)) for seed, task in enumerate(tasks)]
        for world, seen in worlds:
            earned = 0.0
            while not seen.over:
                player.stdin.write(json.dumps(shown(seen)).encode() + b"\n")
                seen = await world.step(say((await player.stdout.readline()).decode()))
                assert seen.components["mistakes"] == 0
                earned += seen.reward
            assert seen.terminated
            assert earned == pytest.approx(1)
        player.stdin.close()
        await player.wait()


async def test_the_same_seed_gives_the_same_world_by_words_or_by_tools(node, monkeypatch):
    async with served(node) as address, connected(address, monkeypatch) as environment:
        (one, first), (two, same) = [await environment.open(start()) for _ in range(2)]
        _, other = await environment.open(start(seed=4))
        assert first == same
        assert shown(first) != shown(other)
        by_word = await one.step(say("move south 1"))
        call = ToolCall(id="c1", name="move", arguments='{"direction": "south", "steps": 1}')
        by_tool = await two.step(Message(role="assistant", tool_calls=(call,)))
        assert shown(by_word) == shown(by_tool)
        assert (by_tool.messages[0].role, by_tool.messages[0].tool_call_id) == ("tool", "c1")
        broken = ToolCall(id="c2", name="move", arguments='{"direction')
        told = await two.step(Message(role="assistant", tool_calls=(broken,)))
        assert "the actions are" in shown(told)
        assert told.components == {"mistakes": 1.0}


async def test_a_world_without_actions_left_is_truncated(node, monkeypatch):
    async with served(node) as address, connected(address, monkeypatch) as environment:
        world, seen = await environment.open(start())
        while not seen.over:
            seen = await world.step(say("wait"))
        assert (seen.truncated, seen.terminated, seen.reward) == (True, False, 0.0)


async def test_beyond_its_worlds_it_is_busy_until_one_is_freed(node, monkeypatch):
    async with served(node, WORLDS="2") as address, connected(address, monkeypatch, busy_timeout_s=1) as environment:
        stub = raw_stub(address)
        calls = [await raw_world(stub) for _ in range(2)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw_world(stub)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("retry-after-ms", "500") in list(refused.value.trailing_metadata())
        with pytest.raises(EndpointBusy):
            await environment.open(start())
        calls[0].cancel()
        world, _ = await eventually(lambda: environment.open(start()))
        await world.close()
        await calls[1].done_writing()
        assert await calls[1].read() == grpc.aio.EOF
        for _ in range(2):
            await eventually(lambda: environment.open(start()))


async def test_steps_are_numbered_and_idempotent(node):
    async with served(node) as address:
        stub = raw_stub(address)
        call = await raw_world(stub)
        answers = []
        for _ in range(2):
            await call.write(raw_step(1, "wait"))
            answers.append(await call.read())
        assert answers[0] == answers[1]
        await call.write(raw_step(3, "wait"))
        assert await refusal(call) == grpc.StatusCode.FAILED_PRECONDITION


async def test_what_makes_no_sense_ends_its_own_stream_only(node):
    nobody = types_pb2.Message(role="nobody")
    task = types_pb2.Task(id="t", messages=[nobody])
    odd = types_pb2.ToolCall(name="move", arguments='{"direction": {"toString": 1, "valueOf": 1}}')
    async with served(node) as address:
        stub = raw_stub(address)
        steady = await raw_world(stub)
        for senseless in (
            raw_step(0, "wait"),
            pb.Action(),
            pb.Action(start=pb.WorldStart()),
            pb.Action(start=pb.WorldStart(task=task)),
        ):
            call = stub.Interact(metadata=BEARER, timeout=20)
            await call.write(senseless)
            assert await refusal(call) == grpc.StatusCode.INVALID_ARGUMENT
        for senseless in (pb.Action(step=1), pb.Action(step=1, message=nobody)):
            call = await raw_world(stub)
            await call.write(senseless)
            assert await refusal(call) == grpc.StatusCode.INVALID_ARGUMENT
        await steady.write(pb.Action(step=1, message=types_pb2.Message(role="assistant", tool_calls=[odd])))
        assert (await steady.read()).components["mistakes"] == 1


async def test_a_wrong_token_is_refused_everywhere(node, monkeypatch):
    async with served(node) as address, connected(address, monkeypatch, token="another") as environment:
        for ask in (environment.describe(), environment.open(start()), anext(environment.tasks("test"))):
            with pytest.raises(EndpointRefused, match="token"):
                await ask


async def test_a_lifetime_ends_a_world(node):
    async with served(node) as address:
        stub = raw_stub(address)
        call = stub.Interact(metadata=BEARER, timeout=20)
        await call.write(pb.Action(start=pb.WorldStart(task=types_pb2.Task(id="t"), lifetime_s=0.2)))
        await call.read()
        assert await refusal(call) == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_it_says_that_it_is_healthy(node):
    async with served(node) as address, grpc.aio.insecure_channel(address.removeprefix("grpc://")) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_server_that_is_gone_breaks_its_worlds_without_a_reward(node, monkeypatch):
    async with connected_to_a_dying(node, monkeypatch) as world:
        with pytest.raises((EndpointUnavailable, EndpointBroken, DeadlineExceeded)):
            await world.step(say("wait"))


BEARER = (("authorization", f"Bearer {TOKEN}"),)


def raw_stub(address):
    return environment_pb2_grpc.EnvironmentStub(grpc.aio.insecure_channel(address.removeprefix("grpc://")))


def raw_step(step, text):
    content = [types_pb2.ContentPart(text=text)]
    return pb.Action(step=step, message=types_pb2.Message(role="assistant", content=content))


async def raw_world(stub):
    call = stub.Interact(metadata=BEARER, timeout=20)
    await call.write(pb.Action(start=pb.WorldStart(task=types_pb2.Task(id="t"), seed=1)))
    assert await call.read() != grpc.aio.EOF
    return call


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    return refused.value.code()


async def eventually(ask):
    for _ in range(200):
        try:
            return await ask()
        except EndpointBusy:
            await asyncio.sleep(0.02)
    raise AssertionError("no world was freed")


@asynccontextmanager
async def connected_to_a_dying(node, monkeypatch):
    env = {**os.environ, "PORT": "0", "TOKEN": TOKEN}
    server = await asyncio.create_subprocess_exec(node, "server.js", cwd=FOLDER, env=env, stdout=subprocess.PIPE)
    assert server.stdout is not None
    address = (await asyncio.wait_for(server.stdout.readline(), 30)).decode().split()[-1]
    async with connected(address, monkeypatch) as environment:
        world, _ = await environment.open(start())
        server.kill()
        await server.wait()
        yield world
