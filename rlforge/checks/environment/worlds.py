"""Whether worlds are what they should be: alike where they must be, apart from one another, moved once by each step."""

from __future__ import annotations

import asyncio

from rlforge.checks.environment.case import TURNS, EnvironmentCase, brief, must_move, over, same
from rlforge.checks.fault import Fault
from rlforge.checks.line import WorldLine
from rlforge.checks.properties import Failed, Property, Skipped
from rlforge.wire.pb import environment_pb2

_TASKS = 4
"""Tasks that are played twice to see the same world."""


async def same_seed_same_world(case: EnvironmentCase) -> str:
    """The same task, seed and replies show the same."""
    starts = [case.start(number, seed=number) for number in range(min(len(case.tasks), _TASKS))]
    plays = [(await case.play(start), await case.play(_as_member(start, 1))) for start in starts]
    try:
        for start, (one, other) in zip(starts, plays, strict=True):
            same(one, other, f"task '{start.start.task.id}' with seed {start.start.seed}, played twice")
    except Failed as difference:
        if case.spec.deterministic:
            raise
        raise Skipped(f"Describe says that it is not deterministic, and indeed: {difference}") from difference
    if not case.spec.deterministic:
        raise Skipped("Describe says that it is not deterministic; it was, so it may say so")
    steps = sum(len(one) for one, _ in plays)
    return f"{len(plays)} tasks played twice, {steps} observations alike"


async def worlds_do_not_leak(case: EnvironmentCase) -> str:
    """Worlds played side by side show what each shows alone."""
    if case.together < 2:
        raise Skipped("Describe says that one world lives at a time")
    starts = [case.start(number, seed=number) for number in range(case.together)]
    alone = [await case.play(start) for start in starts]
    must_move(alone, case.replies)
    try:
        for start, seen in zip(starts, alone, strict=True):
            same(seen, await case.play(start), "a world played alone twice")
    except Failed as difference:
        raise Skipped(f"worlds that differ by themselves tell nothing about leaks: {difference}") from difference
    beside = await _side_by_side(case, starts)
    for number, (one, other) in enumerate(zip(alone, beside, strict=True)):
        same(one, other, f"world {number} alone and beside {case.together - 1} others")
    return f"{case.together} worlds showed side by side what they showed alone"


async def answers_a_resent_step_from_memory(case: EnvironmentCase) -> str:
    """A step sent twice is answered twice alike and moves the world once."""
    start = case.start()
    undisturbed = await case.play(start)
    async with case.world(start) as (world, first):
        seen, resent, action = [first], 0, start
        while not over(seen[-1]):
            again = await _resend(world, action)
            if again != seen[-1]:
                raise Failed(f"step {action.step} showed {brief(seen[-1])}, and sent again {brief(again)}")
            resent += 1
            following = case.action(start, action.step + 1) if action.step < TURNS else None
            if following is None:
                break
            action = following
            seen.append(await world.ask(action, f"the answer to step {action.step}"))
    if case.spec.deterministic:
        same(undisturbed, seen, "a world whose steps were each sent twice and one whose were not")
    if resent > 1:
        must_move([undisturbed], case.replies)
    return f"{resent} steps sent twice; the world moved once for each"


async def _resend(world: WorldLine, action: environment_pb2.Action) -> environment_pb2.Observation:
    try:
        return await world.ask(action, f"the answer to step {action.step}, sent again")
    except Fault as fault:
        raise Failed(f"step {action.step}, sent again, ended in {fault.told}") from fault


async def _side_by_side(
    case: EnvironmentCase, starts: list[environment_pb2.Action]
) -> list[list[environment_pb2.Observation]]:
    """All worlds open before any moves, then one step of each in turn."""
    opened = [await case.open(start) for start in starts]
    seen = [[first] for _, first in opened]
    try:
        for step in range(1, TURNS + 1):
            await asyncio.gather(
                *(
                    _move(case, world, start, own, step)
                    for (world, _), start, own in zip(opened, starts, seen, strict=True)
                )
            )
    finally:
        await asyncio.gather(*(world.leave() for world, _ in opened))
    return seen


async def _move(
    case: EnvironmentCase,
    world: WorldLine,
    start: environment_pb2.Action,
    seen: list[environment_pb2.Observation],
    step: int,
) -> None:
    action = case.action(start, step)
    if action is not None and not over(seen[-1]):
        seen.append(await world.ask(action, f"the answer to step {step}"))


def _as_member(start: environment_pb2.Action, member: int) -> environment_pb2.Action:
    other = environment_pb2.Action()
    other.CopyFrom(start)
    other.start.member = member
    other.start.rollout_id = f"{start.start.rollout_id}#{member}"
    return other


PROPERTIES = (
    Property(
        "same seed, same world",
        same_seed_same_world,
        why="the members of a group share a baseline: they must start and move alike",
        remedy="draw all chance from the seed of WorldStart, or say `deterministic: false`",
    ),
    Property(
        "worlds do not leak into one another",
        worlds_do_not_leak,
        why="a reward would depend on what other rollouts happen to do",
        remedy="keep every state in the stream's own world; share nothing that steps change",
    ),
    Property(
        "a resent step is answered from memory",
        answers_a_resent_step_from_memory,
        why="a client resends after a lost answer; the world would move twice for one reply",
        remedy="keep the last observation, and send it again when its `step` comes again",
    ),
)
"""In the order in which they are examined."""
