"""Worlds in processes of their own: a process that dies takes its own worlds along, and none outlives its owner."""

import asyncio
import json
import subprocess
import sys

import psutil
import pytest

from rlforge.environments import process_line, spread
from rlforge.environments.adapt import adapt
from rlforge.errors import ConfigError, DeadlineExceeded, EndpointBroken, EndpointBusy, EndpointRefused
from tests.unit.environments.worlds import AsyncCounter, Counter, Crashing, Docless, Shop, call, say, start, text, value
from tests.worlds import until


async def pid_of(world):
    return value(await world.step(say("pid")))


async def down_to(environment, worlds):
    await until(lambda: environment.occupied == worlds)


async def gone(pid):
    for _ in range(800):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")


async def test_worlds_in_processes_behave_as_in_this_one():
    said = []
    for processes in (0, 2):
        environment = adapt(Counter, worlds=4, processes=processes)
        spec = await environment.describe()
        worlds = [await environment.open(start(seed=seed)) for seed in (1, 1, 4)]
        steps = [await world.step(say("up")) for world, _ in worlds]
        said.append([spec, [first for _, first in worlds], steps])
        await environment.open(start())
        with pytest.raises(EndpointBusy):
            await environment.open(start())
        with pytest.raises(EndpointBroken, match=r"KeyError: 'sideways' \(.*worlds\.py:\d+ in step\)"):
            await worlds[0][0].step(say("sideways"))
        await down_to(environment, 3)
        await environment.open(start())
        await environment.close()
    assert said[0] == said[1]


async def test_other_shapes_travel_as_well():
    environment = adapt(Shop, processes=1)
    world, _ = await environment.open(start())
    assert text(await world.step(call("add", '{"item": "bread"}'))) == "1 in the basket"
    await environment.close()
    environment = adapt(AsyncCounter(), processes=1)
    world, _ = await environment.open(start())
    await world.close()
    with pytest.raises(EndpointRefused, match="closed"):
        await world.step(say("x"))
    await environment.close()


async def test_a_killed_process_breaks_its_worlds_only_and_is_replaced():
    environment = adapt(Crashing, processes=2)
    worlds = [(await environment.open(start()))[0] for _ in range(4)]
    pids = [await pid_of(world) for world in worlds]
    assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2]
    with pytest.raises(EndpointBroken, match="SIGKILL"):
        await worlds[0].step(say("kill"))
    for world, pid in zip(worlds[1:], pids[1:], strict=True):
        if pid == pids[0]:
            with pytest.raises(EndpointBroken, match=r"gone|ended"):
                await world.step(say("up"))
        else:
            assert text(await world.step(say("up"))) == "at 2"
    fresh = [(await environment.open(start()))[0] for _ in range(2)]
    assert pids[0] not in [await pid_of(world) for world in fresh]
    await environment.close()


async def test_a_hung_process_is_found_out_and_killed(monkeypatch):
    monkeypatch.setattr(spread, "_GRACE_S", 0.2)
    monkeypatch.setattr(process_line, "_ANSWER_S", 2.0)
    environment = adapt(Crashing, processes=1)
    world, _ = await environment.open(start())
    pid = await pid_of(world)
    hung, _ = await environment.open(start(step_timeout_s=1.0))
    with pytest.raises(DeadlineExceeded):
        await hung.step(say("hang"))
    await gone(pid)
    with pytest.raises(EndpointBroken, match="did not move"):
        await world.step(say("up"))
    again, _ = await environment.open(start())
    assert await pid_of(again) != pid
    await environment.close()


@pytest.mark.parametrize("others", [0, 1])
async def test_a_world_given_up_amid_a_step_keeps_its_place_until_it_is_closed_or_its_process_is_ended(
    others, monkeypatch, tmp_path
):
    monkeypatch.setattr(spread, "_CLOSE_S", 0.5)
    environment = adapt(Crashing, worlds=1 + others, processes=1)
    world, _ = await environment.open(start())
    pid = await pid_of(world)
    neighbours = [(await environment.open(start()))[0] for _ in range(others)]
    step = asyncio.create_task(world.step(say("sleep")))
    await asyncio.sleep(0.2)
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    with pytest.raises(EndpointBusy):
        await environment.open(start())
    await down_to(environment, others)
    again, _ = await environment.open(start())
    assert (await pid_of(again) == pid) == bool(others)  # where it had the process to itself, that was ended at once
    for neighbour in neighbours:
        assert await pid_of(neighbour) == pid
    await environment.close()


async def test_closing_leaves_nothing_behind():
    environment = adapt(Crashing, processes=1)
    world, _ = await environment.open(start())
    pid = await pid_of(world)
    child = value(await world.step(say("spawn")))
    await environment.close()
    await environment.close()
    await gone(pid)
    await gone(child)


async def test_what_another_process_cannot_find_or_use_is_refused():
    with pytest.raises(ConfigError, match="top of a module"):
        adapt(lambda: Counter(), processes=1)
    environment = adapt(Docless, processes=1)
    with pytest.raises(ConfigError, match="would be tools if they had docstrings"):
        await environment.describe()
    await environment.close()


_OWNER = """
import asyncio, json, sys
from rlforge.environments.adapt import adapt
from rlforge.types import Message, Task, WorldStart

class Mine:
    def reset(self, task, seed): ...
    def step(self, action):
        import os, subprocess
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
        return [os.getpid(), child.pid], 0, False, False, {}

async def main():
    environment = adapt(Mine, processes=1)
    world, _ = await environment.open(WorldStart(task=Task(id="t", messages=()), seed=1))
    seen = await world.step(Message.of("assistant", "go"))
    print(json.dumps(seen.messages[0].content[0].value), flush=True)
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_killed_owner_leaves_no_process_behind(tmp_path):
    script = tmp_path / "owner.py"
    script.write_text(_OWNER)
    owner = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pids = json.loads(await owner.stdout.readline())
    owner.kill()
    await owner.wait()
    for pid in pids:
        await gone(pid)


async def test_a_main_file_without_a_guard_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "owner.py"
    script.write_text(_OWNER.replace('if __name__ == "__main__":', "if True:"))
    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(script)], capture_output=True, text=True, timeout=60
    )
    assert "under `if __name__" in told.stderr
