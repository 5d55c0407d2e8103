"""Worlds in this process: slow ones hold nobody up, and a place is free once nothing runs in its world any more."""

import asyncio
import time

import pytest

from rlforge.environments import local
from rlforge.environments.adapt import adapt
from rlforge.errors import DeadlineExceeded, EndpointBusy, EndpointRefused, EndpointUnavailable
from rlforge.types import Task
from tests.unit.environments.worlds import AsyncCounter, Slow, say, start, text


@pytest.fixture(autouse=True)
def _gate():
    Slow.gate.clear()
    Slow.begun.clear()
    Slow.closed.clear()
    yield
    Slow.gate.set()


async def begun():
    """Wait until a slow step is under way."""
    await eventually(Slow.begun.is_set)


async def eventually(true):
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to be")


async def test_a_slow_world_holds_neither_the_loop_nor_others():
    environment = adapt(Slow)
    worlds = [(await environment.open(start()))[0] for _ in range(40)]
    waiting = asyncio.create_task(worlds[0].step(say("wait")))
    begin = time.monotonic()
    await asyncio.gather(*(world.step(say("sleep")) for world in worlds[1:]))
    assert time.monotonic() - begin < 3  # one after another it would be 8 s
    assert not waiting.done()
    Slow.gate.set()
    assert text(await waiting) == "wait"


async def test_closing_amid_a_step_returns_at_once_and_its_place_is_free_when_the_step_has_ended():
    environment = adapt(Slow, worlds=1)
    world, _ = await environment.open(start())
    step = asyncio.create_task(world.step(say("wait")))
    await begun()
    with pytest.raises(EndpointBusy, match="1 worlds are in use"):
        await environment.open(start())
    begin = time.monotonic()
    await world.close()
    assert time.monotonic() - begin < 8  # the step would take 20 s, and a close that waits for it 10 s
    with pytest.raises(EndpointBusy):  # its own code still runs in there
        await environment.open(start())
    assert Slow.closed == []
    Slow.gate.set()
    await eventually(lambda: not environment.occupied)
    assert Slow.closed == ["t/1"]
    other, _ = await environment.open(start())
    step.cancel()
    with pytest.raises(EndpointRefused):
        await world.step(say("up"))
    await other.close()


@pytest.mark.parametrize("given_up", ["cancelled", "over its time"])
async def test_a_step_that_is_given_up_keeps_its_place_while_it_runs(given_up):
    environment = adapt(Slow, worlds=1)
    world, _ = await environment.open(start(step_timeout_s=1.0 if given_up == "over its time" else 0.0))
    step = asyncio.create_task(world.step(say("wait")))
    await begun()
    if given_up == "cancelled":
        step.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await step
    with pytest.raises(EndpointBusy):
        await environment.open(start(task=Task(id="next", messages=())))
    Slow.gate.set()
    await eventually(lambda: not environment.occupied)
    assert Slow.closed == ["t/1"]
    await environment.open(start(task=Task(id="next", messages=())))


async def test_a_reset_that_is_given_up_keeps_its_place_while_it_runs():
    class Late(Slow):
        def reset(self, task):
            super().reset(task)
            Slow.gate.wait(20)

    environment = adapt(Late, worlds=1)
    with pytest.raises(DeadlineExceeded):
        await environment.open(start(step_timeout_s=0.5))
    with pytest.raises(EndpointBusy):
        await environment.open(start())
    Slow.gate.set()
    await eventually(lambda: Slow.closed == ["t/1"] and not environment.occupied)


async def test_a_step_that_never_ends_is_told_and_loses_its_place_in_the_end(monkeypatch, caplog):
    monkeypatch.setattr(local, "_CLOSE_S", 0.1)
    monkeypatch.setattr(local, "_ABANDONED_S", 1.5)
    environment = adapt(Slow, worlds=1)
    world, _ = await environment.open(start())
    step = asyncio.create_task(world.step(say("wait")))
    await begun()
    await world.close()
    await eventually(lambda: "runs on after 0.1 s" in caplog.text)
    assert environment.occupied == 1
    await eventually(lambda: not environment.occupied)
    assert "Slow, task 't/1', seed" in caplog.text
    await asyncio.gather(step, return_exceptions=True)


async def test_a_step_over_its_time_ends_the_world():
    world, _ = await adapt(Slow).open(start(step_timeout_s=0.5))
    with pytest.raises(DeadlineExceeded, match="its step"):
        await world.step(say("wait"))
    with pytest.raises(EndpointRefused):
        await world.step(say("now"))


async def test_a_lifetime_ends_the_world_between_steps():
    world, _ = await adapt(Slow).open(start(lifetime_s=1.0))
    await world.step(say("now"))
    await asyncio.sleep(1.05)
    with pytest.raises(DeadlineExceeded):
        await world.step(say("now"))


async def test_a_class_may_say_how_long_its_steps_take():
    class Patient(Slow):
        step_timeout_s = 0.5

    world, _ = await adapt(Patient).open(start())
    with pytest.raises(DeadlineExceeded):
        await world.step(say("wait"))


async def test_a_world_takes_one_step_at_a_time():
    world, _ = await adapt(Slow).open(start())
    first = asyncio.create_task(world.step(say("wait")))
    await begun()
    with pytest.raises(EndpointRefused, match="under way"):
        await world.step(say("now"))
    Slow.gate.set()
    await first


async def test_closing_waits_for_the_users_close_and_may_be_done_twice():
    made = []

    def make():
        made.append(AsyncCounter())
        return made[-1]

    environment = adapt(make)
    world, _ = await environment.open(start())
    other, _ = await environment.open(start())
    await world.close()
    await world.close()
    assert [each.closed for each in made[-2:]] == [True, False]
    await environment.close()
    assert made[-1].closed
    with pytest.raises(EndpointUnavailable):
        await environment.open(start())
    with pytest.raises(EndpointRefused):
        await other.step(say("x"))


async def test_closing_amid_a_coroutine_cancels_it_before_the_users_close():
    told = []

    class Waits:
        async def reset(self): ...

        async def step(self, action):
            told.append("step begun")
            try:
                await asyncio.sleep(60)
            finally:
                told.append("step ended")

        async def close(self):
            told.append("closed")

    world, _ = await adapt(Waits).open(start())
    step = asyncio.create_task(world.step(say("x")))
    await eventually(lambda: told)
    await world.close()
    assert told == ["step begun", "step ended", "closed"]
    with pytest.raises(EndpointRefused, match="closed during its step"):
        await step


async def test_tasks_are_listed_once_however_many_worlds_open_at_once():
    asked = []

    class Lists(Slow):
        @staticmethod
        def tasks(split):
            asked.append(split)
            return ["a"]

    environment = adapt(Lists)
    await asyncio.gather(*(environment.open(start()) for _ in range(20)))
    assert asked == ["train", "test"]


async def test_a_failed_reset_frees_its_place():
    class Broken(Slow):
        def reset(self, task):
            if task.id == "t/1":
                raise OSError("no simulator")
            return super().reset(task)

        def close(self): ...

    environment = adapt(Broken, worlds=1)
    for _ in range(2):
        with pytest.raises(Exception, match="no simulator"):
            await environment.open(start())
        await eventually(lambda: not environment.occupied)
    await environment.open(start(task=Task(id="t/2", messages=())))
