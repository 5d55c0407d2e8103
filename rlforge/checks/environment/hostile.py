"""Whether an environment keeps its door: nonsense and floods are refused, strangers stay outside, and it lives on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from rlforge.checks.environment.case import EnvironmentCase, over
from rlforge.checks.fault import REFUSALS, UNREADABLE, Fault
from rlforge.checks.hostile import GARBAGE, OVERSIZED_BYTES, WRONG_TOKENS, keeps_out
from rlforge.checks.line import EnvironmentLine
from rlforge.checks.properties import Failed, Property, Skipped
from rlforge.errors import DeadlineExceeded
from rlforge.wire.pb.environment_pb2 import Action, Observation
from rlforge.wire.pb.types_pb2 import Message


async def refuses_malformed(case: EnvironmentCase) -> str:
    """Nonsense is refused in words, a world beside it plays on, and so does the server."""
    async with _bystander(case):
        await _refuses(case, "bytes that are no message", GARBAGE, UNREADABLE)
        for what, action in _nonsense(case).items():
            await _refuses(case, what, action, REFUSALS)
        second = Action(step=1, start=case.start().start)
        await _refuses(case, "a start where a reply is due", second, REFUSALS, after=case.start())
    return "bytes that are no message, no start, two starts, an unknown role and an empty action were refused"


async def refuses_oversized(case: EnvironmentCase) -> str:
    """A message beyond the limit is refused, a world beside it plays on, and so does the server."""
    limit = case.spec.max_action_bytes
    size = limit + 1 if limit else OVERSIZED_BYTES
    start = case.start()
    start.start.task.messages.add(role="user").content.add(text="a" * size)
    async with _bystander(case):
        await _refuses(case, f"a message of {size} bytes", start, (*REFUSALS, "RESOURCE_EXHAUSTED", "UNAVAILABLE"))
    said = "" if limit else " (Describe says no max_action_bytes)"
    return f"a message of {size} bytes was refused{said}"


async def demands_the_token(case: EnvironmentCase) -> str:
    """Without the token, or with a wrong one, nothing is told and no world starts."""
    if case.place.token is None:
        raise Skipped("no token was given: say --token if the endpoint has one")
    for token, what in WRONG_TOKENS:
        line = case.dial(case.place.with_token(token))
        try:
            await keeps_out(line.describe(), f"Describe with {what}")
            await keeps_out(_begun(case, line), f"a world with {what}")
        finally:
            await line.close()
    return "no token, a wrong one and an empty one were refused, for Describe and for a world"


async def _begun(case: EnvironmentCase, line: EnvironmentLine) -> Observation:
    """What a new world first shows. Raises Fault with the status that the server gave."""
    world = line.world()
    try:
        return await world.ask(case.start())
    finally:
        await world.free()


def _nonsense(case: EnvironmentCase) -> dict[str, Action]:
    """First actions that make no sense, by what is wrong with them."""
    stranger = case.start()
    stranger.start.task.messages.add(role="nobody")
    return {
        "a reply before any start": Action(step=0, message=Message(role="assistant")),
        "an empty action": Action(step=0),
        "a task with a message of the role 'nobody'": stranger,
    }


async def _refuses(
    case: EnvironmentCase, what: str, nonsense: Action | bytes, codes: Sequence[str], after: Action | None = None
) -> None:
    """Raises Failed unless `nonsense` (after a start) ends the world with one of these statuses."""
    world = (await case.open(after))[0] if after else case.line.world()
    try:
        await world.send(nonsense)
        answer = await world.answer(f"a refusal of {what}")
    except Fault as fault:
        if fault.code not in codes:
            raise Failed(f"{what} ended in {fault.told}, not {codes[0]}") from fault
    except DeadlineExceeded as silence:
        raise Failed(f"{what} was neither answered nor refused within {case.patience_s:g} s") from silence
    else:
        raise Failed(f"{what} was answered with an observation of step {answer.step}")
    finally:
        await world.free()


@asynccontextmanager
async def _bystander(case: EnvironmentCase) -> AsyncGenerator[None]:
    """A world that must play on through what happens in the block, and a server that must still answer after it."""
    if case.spec.max_worlds == 1:
        yield
        await _still_answers(case)
        return
    start = case.start()
    async with case.world(start) as (world, first):
        yield
        action = None if over(first) else case.action(start, 1)
        if action is not None:
            try:
                await world.ask(action, "a world beside it to play on")
            except (Fault, DeadlineExceeded) as end:
                raise Failed(f"it was refused, but a world beside it is gone: {end}") from end
    await _still_answers(case)


async def _still_answers(case: EnvironmentCase) -> None:
    try:
        await case.line.describe()
        await case.play(case.start())
    except (Fault, DeadlineExceeded) as end:
        raise Failed(f"it was refused, but the server is not well since: {end}") from end


PROPERTIES = (
    Property(
        "refuses malformed input",
        refuses_malformed,
        why="one client with a bug would take everybody's worlds with it",
        remedy="check `step`, the kind of body and roles; end that stream alone with INVALID_ARGUMENT",
    ),
    Property(
        "refuses oversized input",
        refuses_oversized,
        why="one message could fill the server's memory",
        remedy="set a limit for received messages in your gRPC server, and say it in max_action_bytes",
    ),
    Property(
        "demands its token",
        demands_the_token,
        why="anybody in the network could use the endpoint, or read its tasks",
        remedy="compare `authorization: Bearer ...` in every call, streams included; answer UNAUTHENTICATED",
    ),
)
"""In the order in which they are examined."""
