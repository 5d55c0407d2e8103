"""Worlds on a server, over gRPC and HTTP alike: slots, deadlines, numbered steps, who is let in, what is refused."""

import asyncio
import json
import logging
import threading
import time

import grpc
import httpx
import pytest

from rlforge.errors import (
    ConfigError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointRefused,
    EndpointUnavailable,
)
from rlforge.hosting import grpc_server
from rlforge.hosting.serve import serving
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.transports.grpc_sending import send
from rlforge.types import Message, Observation
from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import environment_pb2 as pb
from rlforge.wire.worlds import encode_reply, encode_start
from tests.faults.proxy import Proxy
from tests.worlds import Clockwork, say, start, until, until_raises

SCHEMES = ["grpc", "http"]


@pytest.fixture
def clockwork():
    return Clockwork()


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return request.param


class Reached:
    """A served clockwork and a client of it."""

    def __init__(self, clockwork, scheme, *, client=None, **settings):
        self._serving = serving(clockwork, f"{scheme}://127.0.0.1:0", **settings)
        self._client = client or {}

    async def __aenter__(self):
        self.address = await self._serving.__aenter__()
        self.environment = connect_environment(EndpointConfig(address=self.address, **self._client))
        return self.environment

    async def __aexit__(self, *error):
        await self.environment.close()
        await self._serving.__aexit__(*error)


async def test_a_world_too_many_is_told_to_come_back_and_waits_its_turn(clockwork, scheme):
    async with Reached(clockwork, scheme, worlds=2) as environment:
        first, _ = await environment.open(start())
        await environment.open(start())
        third = asyncio.create_task(environment.open(start()))
        await asyncio.sleep(0.3)
        assert not third.done()
        assert clockwork.opened == 2
        await first.close()
        await asyncio.wait_for(third, 5)
        assert clockwork.opened == 3


async def test_two_clients_share_the_worlds_of_a_server(clockwork, scheme):
    async with Reached(clockwork, scheme, worlds=2) as environment:
        other = connect_environment(EndpointConfig(address=environment.config.address))
        worlds = [(await environment.open(start()))[0] for _ in range(2)]
        waiting = [asyncio.create_task(other.open(start())) for _ in range(2)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        for world in worlds:
            await world.close()
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        await other.close()


class Robot:
    """One of its kind: notes what is done to it, and blocks in a step until it is let go."""

    def __init__(self):
        self.number = len(Robot.made)
        Robot.made.append(self)

    def reset(self, task):
        Robot.done.append(f"reset {self.number}")
        return "ready"

    def step(self, action):
        Robot.done.append(f"step {self.number}")
        Robot.gate.wait(10)
        Robot.done.append(f"end {self.number}")
        return "moved", 0.0, False, False, {}

    def close(self):
        Robot.done.append(f"close {self.number}")


@pytest.mark.parametrize("given_up", ["cancelled", "over its time"])
async def test_no_two_worlds_are_at_work_in_one_place(scheme, given_up):
    Robot.made, Robot.done, Robot.gate = [], [], threading.Event()
    settings = {"step_timeout_s": 1.0} if given_up == "over its time" else {}
    async with Reached(Robot, scheme, worlds=1) as environment:
        world, _ = await environment.open(start(**settings))
        step = asyncio.create_task(world.step(say("up")))
        await until(lambda: "step 0" in Robot.done)
        if given_up == "cancelled":
            step.cancel()
        await asyncio.wait({step})
        other = connect_environment(EndpointConfig(address=environment.config.address))
        opening = asyncio.create_task(other.open(start()))
        await asyncio.sleep(0.4)
        assert Robot.done == ["reset 0", "step 0"]
        Robot.gate.set()
        await asyncio.wait_for(opening, 5)
        assert Robot.done == ["reset 0", "step 0", "end 0", "close 0", "reset 1"]
        await asyncio.gather(step, return_exceptions=True)
        await other.close()


class Odd:
    """Shows what is no observation."""

    def reset(self, task):
        return Observation(messages=(Message.of("user", "x"),), components={"phase": "start"})

    def step(self, action): ...


class OddItself(Clockwork):
    async def open(self, start):
        world, _ = await super().open(start)
        return world, Observation(components={"phase": "start"})


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (Odd, r"Odd\.reset\(\) returned .* component 'phase' must be a finite number, not str 'start'"),
        (OddItself, r"environment 'clockwork': step 0 shows what is no number: .*'phase': 'start'"),
    ],
)
async def test_an_odd_first_observation_is_the_environments_fault_and_keeps_no_place(scheme, odd, told):
    async with Reached(odd, scheme, worlds=2, client={"busy_timeout_s": 2}) as environment:
        for _ in range(4):
            with pytest.raises(EndpointBroken, match=told):
                await environment.open(start())


async def test_waiting_for_a_world_has_an_end(clockwork, scheme):
    async with Reached(clockwork, scheme, worlds=1, client={"busy_timeout_s": 0.3}) as environment:
        other = connect_environment(EndpointConfig(address=environment.config.address, busy_timeout_s=0.5))
        await environment.open(start())
        for waiting in (environment, other):
            with pytest.raises(EndpointBusy, match="came free within"):
                await waiting.open(start())
        await other.close()


async def test_a_busy_server_is_asked_one_question_at_a_time(clockwork, scheme, caplog):
    async with Reached(clockwork, scheme, worlds=1) as environment:
        other = connect_environment(EndpointConfig(address=environment.config.address))
        await other.describe()
        other._slots = None  # as if the server had not said how many it has
        world, _ = await environment.open(start())
        asked = []
        plain = other._open
        other._open = lambda begin: (asked.append(begin), plain(begin))[1]
        waiting = [asyncio.create_task(other.open(start())) for _ in range(20)]
        await asyncio.sleep(1.5)
        assert 20 < len(asked) < 20 + 10  # once each, then one every quarter of a second
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await world.close()
        await other.close()


async def test_a_step_that_overruns_frees_the_world_and_says_so(clockwork, scheme):
    async with Reached(clockwork, scheme, worlds=1) as environment:
        world, _ = await environment.open(start(step_timeout_s=0.2))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"waited 0.2 s for environment 'clockwork' to do step 1"):
            await world.step(say("sleep 30"))
        assert time.monotonic() - began < 10
        await until(lambda: not clockwork.living)
        await environment.open(start())  # its place is free


async def test_a_start_that_overruns_says_so(clockwork, scheme):
    async with Reached(clockwork, scheme, step_timeout_s=0.2) as environment:
        with pytest.raises(DeadlineExceeded, match="to start a world"):
            await environment.open(start(slow=30))
        await environment.open(start())


async def test_a_client_that_waits_in_vain_gives_up_on_its_own(clockwork, scheme):
    async with Reached(clockwork, scheme, step_timeout_s=30) as environment:
        world, _ = await environment.open(start())
        world._timeout_s = 0.2
        with pytest.raises(DeadlineExceeded, match=r"step 1 of the world of train/0@0#0 at .*: no answer within 0.2 s"):
            await world.step(say("sleep 30"))
        await until(lambda: not clockwork.living)


async def test_cancelling_a_step_frees_the_world_while_it_works(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        world, _ = await environment.open(start())
        step = asyncio.create_task(world.step(say("sleep 30")))
        await until(lambda: clockwork.steps == 1)
        step.cancel()
        await until(lambda: not clockwork.living)
        with pytest.raises(asyncio.CancelledError):
            await step


async def test_closing_a_world_frees_it_while_it_works(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        world, _ = await environment.open(start())
        step = asyncio.create_task(world.step(say("sleep 30")))
        await until(lambda: clockwork.steps == 1)
        await world.close()
        await until(lambda: not clockwork.living)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)


async def test_closing_an_environment_frees_the_worlds_that_nobody_closed(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        for number in range(3):
            await environment.open(start(f"train/{number}"))
        await environment.close()
        await until(lambda: not clockwork.living)


async def test_closing_a_world_frees_it_though_the_wait_for_it_is_given_up(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        world, _ = await environment.open(start())
        closing = asyncio.create_task(world.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await until(lambda: not clockwork.living)


async def test_a_client_that_goes_away_leaves_no_world_behind(clockwork, scheme):
    async with Reached(clockwork, scheme, idle_s=1.5) as environment:
        for _ in range(3):
            await environment.open(start())
        assert len(clockwork.living) == 3
        await (environment.channels if scheme == "grpc" else environment.connection).close()
        await until(lambda: not clockwork.living)


async def test_a_world_lives_no_longer_than_it_may(clockwork, scheme):
    async with Reached(clockwork, scheme, lifetime_s=0.8, idle_s=4) as environment:
        world, _ = await environment.open(start())
        await until(lambda: not clockwork.living)
        with pytest.raises((DeadlineExceeded, EndpointRefused, EndpointUnavailable), match=r"lived|lifetime"):
            await world.step(say("hello"))


async def test_what_the_world_raises_reaches_the_client_with_its_line(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(
            EndpointBroken, match=r"'clockwork' on step 1 of task 'train/0': ValueError: a gear .*worlds.py"
        ):
            await world.step(say("boom"))
        await until(lambda: not clockwork.living)


async def test_a_world_that_waits_for_what_was_cancelled_is_broken_and_keeps_no_place(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(EndpointBroken, match="CancelledError"):
            await world.step(say("cancelled"))
        await until(lambda: not clockwork.living)


async def test_an_observation_that_makes_no_sense_is_a_fault_and_no_reward(clockwork, scheme):
    async with Reached(clockwork, scheme) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(EndpointBroken, match="'reward' of step 1 is nan"):
            await world.step(say("nan"))


async def test_messages_beyond_the_limit_are_refused(clockwork, scheme):
    async with Reached(clockwork, scheme, max_message_bytes=20_000) as environment:
        world, _ = await environment.open(start())
        with pytest.raises(EndpointRefused, match=r"(?i)larger than max|longer than 20000 bytes"):
            await world.step(say("x" * 30_000))


async def test_answers_beyond_the_limit_are_refused(clockwork, scheme):
    async with Reached(clockwork, scheme, client={"max_message_bytes": 20_000}) as environment:
        world, _ = await environment.open(start())
        with pytest.raises((EndpointRefused, EndpointBroken), match=r"(?i)max_message_bytes"):
            await world.step(say("big 30000"))


async def test_a_token_is_asked_for_and_never_shown(clockwork, scheme, monkeypatch, tmp_path):
    monkeypatch.setenv("RIGHT", "open-sesame")
    (tmp_path / "wrong").write_text("open-barley\n")
    async with Reached(clockwork, scheme, token="env:RIGHT", client={"token": "env:RIGHT"}) as environment:
        assert (await environment.describe()).name == "clockwork"
        for token in (None, f"file:{tmp_path}/wrong"):
            stranger = connect_environment(EndpointConfig(address=environment.config.address, token=token))
            with pytest.raises(EndpointRefused, match=r"bearer token is missing or wrong.*check `token`") as refused:
                await stranger.describe()
            assert "barley" not in str(refused.value)
            await stranger.close()


async def test_a_missing_secret_is_found_before_anything_is_sent(scheme, monkeypatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(ConfigError, match="env:NOT_THERE"):
        connect_environment(EndpointConfig(address=f"{scheme}://127.0.0.1:1", token="env:NOT_THERE"))
    with pytest.raises(ConfigError, match="env:NOT_THERE"):
        async with serving(Clockwork, f"{scheme}://127.0.0.1:0", token="env:NOT_THERE"):
            pass


async def test_nobody_there_is_unavailable_within_the_time_for_connecting(scheme):
    nobody = connect_environment(EndpointConfig(address=f"{scheme}://127.0.0.1:9", connect_timeout_s=0.5))
    began = time.monotonic()
    with pytest.raises(EndpointUnavailable, match=r"127\.0\.0\.1:9"):
        await nobody.describe()
    assert time.monotonic() - began < 3
    await nobody.close()


async def test_a_server_that_comes_back_is_found_again(clockwork, scheme):
    async with serving(clockwork, f"{scheme}://127.0.0.1:0") as address:
        environment = connect_environment(EndpointConfig(address=address))
        world, _ = await environment.open(start())
    with pytest.raises(EndpointUnavailable):
        await world.step(say("hello"))
    async with serving(clockwork, address):
        _, first = await environment.open(start())
        assert first.messages
        await environment.close()


async def test_draining_lets_worlds_end_and_takes_no_new_one(clockwork, scheme):
    hosted = serving(clockwork, f"{scheme}://127.0.0.1:0", drain_s=5)
    environment = connect_environment(EndpointConfig(address=await hosted.__aenter__()))
    world, _ = await environment.open(start())
    stopping = asyncio.create_task(hosted.__aexit__(None, None, None))

    async def another() -> None:
        await (await environment.open(start()))[0].close()

    assert "draining" in str(await until_raises(EndpointUnavailable, another))
    assert (await world.step(say("on"))).messages[0].text == "1: on"
    assert (await world.step(say("end"))).over
    await asyncio.wait_for(stopping, 3)
    await environment.close()


async def test_a_world_behind_a_link_that_went_silent_is_freed_although_no_connection_ended(clockwork, monkeypatch):
    monkeypatch.setattr(grpc_server, "KEEPALIVE_S", 0.5)
    monkeypatch.setattr(grpc_server, "PING_TIMEOUT_S", 2.0)
    async with serving(clockwork, "grpc://127.0.0.1:0") as address:
        link = Proxy(int(address.rpartition(":")[2]))
        await link.start()
        environment = connect_environment(EndpointConfig(address=f"grpc://127.0.0.1:{link.port}"))
        world, _ = await environment.open(start())
        await asyncio.sleep(1.2)
        assert (await world.step(say("on"))).messages[0].text == "1: on"  # a quiet client that answers is left alone
        link.silence()
        await until(lambda: not clockwork.living)
        await environment.close()
        await link.stop()


async def test_each_world_leaves_one_line_in_the_log(clockwork, scheme, caplog):
    caplog.set_level(logging.INFO, "rlforge.hosting")
    async with Reached(clockwork, scheme) as environment:
        for word in ("end", "boom"):
            world, _ = await environment.open(start())
            await asyncio.gather(world.step(say(word)), return_exceptions=True)
        gone, _ = await environment.open(start())
        await gone.close()
        await until(lambda: len([r for r in caplog.records if "world_ended" in r.message]) == 3)
    lines = [json.loads(record.message) for record in caplog.records if "world_ended" in record.message]
    assert [line["end"] for line in lines][:2] == ["terminated", "broken"]
    assert lines[2]["end"] in ("left", "cancelled")
    assert lines[0]["rollout"] == "train/0@0#0"
    assert lines[0]["steps"] == 1
    assert "a gear has broken" in lines[1]["error"]


class Raw:
    """Speaks the protocol by hand, so that it can speak it wrongly."""

    def __init__(self, address):
        self.address = address
        self.scheme = address.partition(":")[0]

    async def __aenter__(self):
        if self.scheme == "grpc":
            self._channel = grpc.aio.insecure_channel(self.address.removeprefix("grpc://"))
            self._call = self._channel.stream_stream("/rlforge.v1.Environment/Interact")()
        else:
            self._client = httpx.AsyncClient(base_url=self.address, trust_env=False)
            self._path = "/v1/worlds"
        return self

    async def __aexit__(self, *_):
        if self.scheme == "grpc":
            self._call.cancel()
            await self._channel.close()
        else:
            await self._client.aclose()

    async def send(self, action):
        """The observation, or the name of the status."""
        if self.scheme == "grpc":
            return await self._stream(action)
        content = action if isinstance(action, bytes) else json.dumps(to_json(action))
        said = await self._client.post(self._path, content=content)
        if said.status_code == 201:
            self._path = said.headers["location"] + "/steps"
        return from_json(said.json(), pb.Observation) if said.is_success else said.status_code

    async def _stream(self, action):
        try:
            await send(self._call, action if isinstance(action, bytes) else action.SerializeToString())
            return pb.Observation.FromString(await self._call.read())
        except grpc.aio.AioRpcError as error:
            return error.code().name


async def test_a_step_that_comes_twice_is_answered_from_memory(clockwork, scheme):
    async with serving(clockwork, f"{scheme}://127.0.0.1:0") as address, Raw(address) as raw:
        first = await raw.send(encode_start(start()))
        assert await raw.send(encode_start(start())) == first
        second = await raw.send(encode_reply(1, say("hello")))
        assert await raw.send(encode_reply(1, say("hello"))) == second
        assert await raw.send(encode_reply(1, say("something else"))) == second
        assert (clockwork.opened, clockwork.steps) == (1, 1)


@pytest.mark.parametrize("step", [0, 4, 1])
async def test_a_step_out_of_order_is_refused_and_frees_the_world(clockwork, scheme, step):
    async with serving(clockwork, f"{scheme}://127.0.0.1:0") as address, Raw(address) as raw:
        await raw.send(encode_start(start()))
        await raw.send(encode_reply(1, say("hello")))
        await raw.send(encode_reply(2, say("hello")))
        refused = {"grpc": "FAILED_PRECONDITION", "http": 409}[scheme]
        assert await raw.send(encode_reply(step, say("hello"))) == refused
        assert clockwork.steps == 2
        await until(lambda: not clockwork.living)


@pytest.mark.parametrize(
    "action",
    [
        b"\xff\xff\xff",
        pb.Action(step=0),
        encode_reply(0, say("no start")),
        pb.Action(step=0, start=pb.WorldStart(task={"id": "t", "messages": [{"role": "bystander"}]})),
    ],
    ids=["garbage", "empty", "reply first", "odd role"],
)
async def test_a_malformed_start_is_refused_and_leaves_no_world(clockwork, scheme, action):
    async with serving(clockwork, f"{scheme}://127.0.0.1:0", worlds=1) as address:
        async with Raw(address) as raw:
            assert await raw.send(action) == {"grpc": "INVALID_ARGUMENT", "http": 400}[scheme]
        async with Raw(address) as raw:
            assert (await raw.send(encode_start(start()))).step == 0


async def test_no_room_is_told_with_advice(clockwork, scheme):
    async with serving(clockwork, f"{scheme}://127.0.0.1:0", worlds=1) as address, Raw(address) as raw:
        await raw.send(encode_start(start()))
        async with Raw(address) as second:
            if scheme == "grpc":
                call = second._call
                assert await second.send(encode_start(start())) == "RESOURCE_EXHAUSTED"
                assert 100 <= int(dict(await call.trailing_metadata())["retry-after-ms"]) <= 5000
            else:
                said = await second._client.post("/v1/worlds", json=to_json(encode_start(start())))
                assert said.status_code == 429
                assert int(said.headers["retry-after"]) >= 1
                assert said.json()["error"]["retryable"] is True
