"""What an environment promises, here and behind every kind of address."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rlforge.errors import EndpointBroken, EndpointRefused, EndpointUnavailable
from rlforge.interfaces import Environment, World
from rlforge.registry import TRANSPORTS
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Message, ToolCall
from tests.reached import HERE, SERVED, served
from tests.worlds import Clockwork, say, start

FILE = Path(__file__).parents[1] / "worlds.py"


@asynccontextmanager
async def reached(scheme, folder):
    if scheme == HERE:
        yield connect_environment(EndpointConfig(address=f"{HERE}:{FILE}:Clockwork"))
        return
    async with served(Clockwork, scheme, folder) as endpoint:
        yield connect_environment(endpoint)


@pytest.fixture(params=TRANSPORTS.names())
async def environment(request, tmp_path):
    async with reached(request.param, tmp_path) as made:
        yield made
        await made.close()


async def test_it_says_what_it_is(environment):
    assert isinstance(environment, Environment)
    spec = await environment.describe()
    assert (spec.name, spec.version, spec.splits, spec.deterministic) == ("clockwork", "1", {"train": 5}, True)


async def test_its_tasks_come_in_order_and_by_offset_and_limit(environment):
    everything = [task async for task in environment.tasks("train")]
    assert [task.id for task in everything] == [f"train/{number}" for number in range(5)]
    assert everything[3].answer == 3
    assert [task async for task in environment.tasks("train", 1, 2)] == everything[1:3]
    assert [task async for task in environment.tasks("train", 4, 9)] == everything[4:]


async def test_a_world_shows_what_it_shows_wherever_it_is(environment):
    world, first = await environment.open(start("train/3", 11, member=2))
    assert isinstance(world, World)
    assert first.messages[0].text == "train/3 11 2"
    assert first.reward is None
    shown = await world.step(say("forward"))
    assert (shown.messages, shown.reward, shown.components) == ((Message.of("user", "1: forward"),), 1.0, {"steps": 1})
    call = ToolCall(id="1", name="push", arguments="{")
    shown = await world.step(Message(role="assistant", tool_calls=(call,)))
    assert shown.info == {"calls": ["push"]}
    assert not shown.over
    await world.close()


@pytest.mark.parametrize(("word", "terminated"), [("end", True), ("cut", False)])
async def test_a_world_says_when_it_is_over(environment, word, terminated):
    world, _ = await environment.open(start())
    shown = await world.step(say(word))
    assert (shown.terminated, shown.truncated) == (terminated, not terminated)
    await world.close()


async def test_worlds_do_not_mix(environment):
    opened = [(await environment.open(start(f"train/{number % 5}", number)))[0] for number in range(20)]
    for round_ in (1, 2, 3):
        shown = await asyncio.gather(*(world.step(say(str(n))) for n, world in enumerate(opened)))
        assert [each.messages[0].text for each in shown] == [f"{round_}: {n}" for n in range(20)]
    await asyncio.gather(*(world.close() for world in opened))


async def test_what_breaks_in_a_world_says_what_and_leaves_the_others_alone(environment):
    (broken, _), (whole, _) = await environment.open(start()), await environment.open(start())
    with pytest.raises((EndpointBroken, ValueError), match="a gear has broken"):
        await broken.step(say("boom"))
    assert (await whole.step(say("on"))).messages[0].text == "1: on"
    await asyncio.gather(broken.close(), whole.close())


async def test_closing_twice_is_fine(environment):
    world, _ = await environment.open(start())
    await world.close()
    await world.close()
    await environment.close()
    await environment.close()


@pytest.mark.parametrize("scheme", SERVED)
async def test_a_world_that_is_gone_says_so(scheme, tmp_path):
    async with reached(scheme, tmp_path) as environment:
        world, _ = await environment.open(start())
        await world.close()
        with pytest.raises(EndpointUnavailable, match="the world is gone"):
            await world.step(say("hello"))
        await environment.close()


@pytest.mark.parametrize("scheme", SERVED)
async def test_a_split_that_is_not_there_is_refused(scheme, tmp_path):
    async with reached(scheme, tmp_path) as environment:
        with pytest.raises(EndpointRefused, match="no split 'tset', only train"):
            _ = [task async for task in environment.tasks("tset")]
        await environment.close()
