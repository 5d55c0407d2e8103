"""Whether a world is freed however its client goes away, and ends when its time is over."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from rlforge.checks.environment.case import EnvironmentCase, over
from rlforge.checks.fault import Fault
from rlforge.checks.line import EnvironmentLine, WorldLine
from rlforge.checks.link import linked
from rlforge.checks.properties import Failed, Property, Skipped, Warned
from rlforge.deadlines import deadline
from rlforge.errors import DeadlineExceeded
from rlforge.wire.pb import environment_pb2

Lose: TypeAlias = Callable[[EnvironmentLine, int], Awaitable[None]]
"""Takes so many worlds on a connection and loses them."""
_AT_ONCE = 64
"""Worlds that are taken in one go."""
_MOST = 1024
"""Worlds that are taken in all to see whether they come back."""
_LIFETIME_S = 0.4
_SLOW_S = 0.04
"""Seconds of a step that can be overrun."""
_AGAIN = 2
"""How often a step is sent again to see how long the way is: a busy machine may hold up one of them."""


async def has_no_more_worlds_than_it_says(case: EnvironmentCase) -> str:
    """One world beyond `max_worlds` is refused as busy, and the others live on."""
    most = case.spec.max_worlds
    if not 0 < most <= _MOST:
        raise Skipped(f"Describe says max_worlds {most}; up to {_MOST} are tried")
    taken = await _take(case, case.line, most)
    try:
        world = case.line.world()
        try:
            await world.ask(case.start(), f"world {most + 1} to be refused")
        except Fault as fault:
            if fault.code != "RESOURCE_EXHAUSTED":
                raise Failed(f"world {most + 1} of {most} ended in {fault.told}, not RESOURCE_EXHAUSTED") from fault
            if not fault.retry_after:
                raise Warned("the refusal has no `retry-after-ms`, so clients guess when to ask again") from fault
        else:
            raise Failed(f"it opened {most + 1} worlds; Describe says {most}")
        finally:
            await world.free()
    finally:
        await _free(taken)
    return f"world {most + 1} was told to wait"


async def cancelling_frees(case: EnvironmentCase) -> str:
    """Worlds cancelled in the middle of a step leave their places to others."""

    async def cancel(line: EnvironmentLine, count: int) -> None:
        await _send_first_step(case, taken := await _take(case, line, count))
        await _free(taken)

    total = await _in_rounds(case, cancel)
    return await _room_is_back(case, f"{total} worlds were cancelled in the middle of a step")


async def dropping_frees(case: EnvironmentCase) -> str:
    """Worlds whose connection is cut leave their places to others."""

    if not case.line.bound:
        raise Skipped("over HTTP no connection says whether a client lives: the server frees worlds that idle too long")

    async def drop(_: EnvironmentLine, count: int) -> None:
        async with linked(case.place.host, case.place.port) as link:
            line = case.dial(case.place.through(link.port))
            try:
                await _send_first_step(case, taken := await _take(case, line, count))
                link.cut()
                await _free(taken)
            finally:
                await line.close()

    total = await _in_rounds(case, drop)
    return await _room_is_back(case, f"the connections of {total} worlds were cut")


async def lifetime_is_kept(case: EnvironmentCase) -> str:
    """A world whose lifetime is over ends by itself, while its client does nothing."""
    began = time.perf_counter()
    start = case.start(lifetime_s=_LIFETIME_S)
    try:
        world, _ = await case.open(start)
    except Fault as fault:
        if fault.code != "DEADLINE_EXCEEDED":
            raise
        return f"it did not start within its lifetime of {_LIFETIME_S} s, and said so"
    try:
        end = await world.ending(_LIFETIME_S + 2)
    except DeadlineExceeded as late:
        raise Failed(f"a world with lifetime_s {_LIFETIME_S} still lived after {_LIFETIME_S + 2:.1f} s") from late
    finally:
        await world.free()
    if end.code != "DEADLINE_EXCEEDED":
        raise Failed(f"a world whose lifetime was over ended in {end.told}, not DEADLINE_EXCEEDED")
    return f"lifetime_s {_LIFETIME_S}: ended after {time.perf_counter() - began:.2f} s with DEADLINE_EXCEEDED"


async def step_time_is_kept(case: EnvironmentCase) -> str:
    """A step that takes longer than its limit ends the world instead of going on."""
    seconds = await _step_seconds(case)
    for _ in range(2):  # a step that a busy machine held up once is no slow one
        if seconds >= _SLOW_S:
            seconds = min(seconds, await _step_seconds(case))
    if seconds < _SLOW_S:
        raise Skipped(f"its steps take {seconds * 1000:.3g} ms: too fast to overrun a limit")
    limit_s = seconds / 3
    start = case.start(step_timeout_s=limit_s)
    began = time.perf_counter()
    try:
        world, _ = await case.open(start)
        try:
            await world.ask(_action(case, start), "a slow step")
        finally:
            await world.free()
    except Fault as fault:
        if fault.code != "DEADLINE_EXCEEDED":
            raise Failed(f"a step longer than its limit of {limit_s:.3f} s ended in {fault.told}") from fault
        return f"a step of {seconds:.3f} s was ended after its {limit_s:.3f} s"
    raise Failed(f"a step with step_timeout_s {limit_s:.3f} was answered after {time.perf_counter() - began:.3f} s")


async def _step_seconds(case: EnvironmentCase) -> float:
    """Seconds of a first step, the way there and back apart where that can be told."""
    start = case.start()
    async with case.world(start) as (world, first):
        if over(first) or case.action(start, 1) is None:
            raise Skipped(f"there is no reply to step with (replies: {case.replies.source}); give some with --actions")
        answer, seconds = await _timed(world, _action(case, start), "the answer to step 1")
        ways: list[float] = []  # from memory it takes the way there and back
        while len(ways) < _AGAIN and not over(answer):
            answer, taken = await _timed(world, _action(case, start), "the answer to step 1, sent again")
            ways.append(taken)
        return seconds - min(ways, default=0.0)


async def _timed(
    world: WorldLine, action: environment_pb2.Action, what: str
) -> tuple[environment_pb2.Observation, float]:
    """The answer, and how long it took."""
    began = time.perf_counter()
    answer = await world.ask(action, what)
    return answer, time.perf_counter() - began


def _action(case: EnvironmentCase, start: environment_pb2.Action) -> environment_pb2.Action:
    action = case.action(start, 1)
    assert action is not None
    return action


async def _take(case: EnvironmentCase, line: EnvironmentLine, count: int) -> list[WorldLine]:
    """So many worlds at once, started; waits for room that others still hold."""
    opening = [asyncio.create_task(case.open(case.start(number), line)) for number in range(count)]
    try:
        await asyncio.wait(opening)
    finally:
        for task in opening:
            task.cancel()  # nothing where it is done
    taken = [task.result()[0] for task in opening if task.exception() is None]
    faults = [fault for task in opening if (fault := task.exception())]
    if faults:
        await _free(taken)
        raise faults[0]
    return taken


async def _send_first_step(case: EnvironmentCase, worlds: list[WorldLine]) -> None:
    """Set every world moving, and wait for nothing."""
    for number, world in enumerate(worlds):
        if action := case.action(case.start(number), 1):
            await world.send(action)


async def _free(worlds: list[WorldLine]) -> None:
    await asyncio.gather(*(world.free() for world in worlds))


async def _in_rounds(case: EnvironmentCase, lose: Lose) -> int:
    """Take as many worlds as there are, some at a time, and lose them; says how many."""
    total = min(case.spec.max_worlds or _AT_ONCE, _MOST)
    rounds = math.ceil(total / _AT_ONCE)
    for _ in range(rounds):
        try:
            await lose(case.line, math.ceil(total / rounds))
        except DeadlineExceeded as full:
            raise Failed(f"lost worlds keep their places: {full}") from full
    return total


async def _room_is_back(case: EnvironmentCase, told: str) -> str:
    """Whether all worlds can be had again, soon."""
    count = min(case.spec.max_worlds or _AT_ONCE, _AT_ONCE)
    try:
        async with deadline(case.patience_s, f"{count} worlds after {told}"):
            await _free(await _take(case, case.line, count))
    except DeadlineExceeded as full:
        raise Failed(f"{told}, and their places did not come back within {case.patience_s:g} s") from full
    if not case.spec.max_worlds:
        return f"{told}; new ones opened (Describe says no max_worlds, so that places cannot be counted)"
    if case.spec.max_worlds > _MOST:
        return f"{told} of the {case.spec.max_worlds} there are; new ones opened"
    return f"{told}; all places were free again"


PROPERTIES = (
    Property(
        "a world lives no longer than it may",
        lifetime_is_kept,
        why="rollouts that nobody waits for any more would fill the server",
        remedy="end the stream with DEADLINE_EXCEEDED when `lifetime_s` of WorldStart is over",
    ),
    Property(
        "a step takes no longer than it may",
        step_time_is_kept,
        why="one hung step would hold its whole group, and the training step with it",
        remedy="end the stream with DEADLINE_EXCEEDED when `step_timeout_s` of WorldStart is over, and stop the work",
    ),
    Property(
        "no more worlds than it says",
        has_no_more_worlds_than_it_says,
        why="clients open as many worlds as Describe says; one too many must wait, not break the others",
        remedy="count worlds, and answer RESOURCE_EXHAUSTED with `retry-after-ms` in the trailing metadata",
    ),
    Property(
        "a cancelled world is freed",
        cancelling_frees,
        why="training cancels rollouts all the time; each would take a place with it",
        remedy="free the world in a `finally` around the stream, and stop its step when the call is cancelled",
    ),
    Property(
        "a dropped connection frees its worlds",
        dropping_frees,
        why="a client that dies would take its worlds' places with it",
        remedy="free the world in a `finally` around the stream; set keep-alive, so that a dead client is noticed",
    ),
)
"""In the order in which they are examined."""
