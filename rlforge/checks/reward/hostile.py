"""Whether a reward endpoint keeps its door and its deadlines: nonsense, floods, strangers, callers who leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from rlforge.checks.fault import REFUSALS, UNREADABLE, Fault
from rlforge.checks.hostile import GARBAGE, OVERSIZED_BYTES, WRONG_TOKENS, healthy, keeps_out
from rlforge.checks.properties import Failed, Property, Skipped, Warned
from rlforge.checks.reward.case import RewardCase, request_of
from rlforge.deadlines import deadline
from rlforge.errors import DeadlineExceeded
from rlforge.wire.pb import reward_pb2

_LEAVERS = 16
"""Requests whose callers leave, where Describe says nothing of how many run at once."""
_PAUSE_S = 0.05


async def refuses_malformed(case: RewardCase) -> str:
    """Nonsense is refused in words, and the server lives on."""
    nameless = request_of([reward_pb2.ScoreItem(id="", rollout=case.items()[0].rollout)])
    twice = request_of([case.items()[0], case.items()[0]])
    await _refuses(case, "bytes that are no message", GARBAGE, UNREADABLE)
    if case.line.plain:
        return "bytes that are no message were refused; it answers in order, without ids"
    await _refuses(case, "an item without an id", nameless, REFUSALS)
    await _refuses(case, "two items with one id", twice, REFUSALS)
    return "bytes that are no message, an item without an id and two items with one id were refused"


async def refuses_oversized(case: RewardCase) -> str:
    """A message beyond all limits is refused, and the server lives on."""
    items = case.items()[:1]
    items[0].rollout.task.messages.add(role="user").content.add(text="a" * OVERSIZED_BYTES)
    await _refuses(
        case,
        f"a message of {OVERSIZED_BYTES} bytes",
        request_of(items),
        (*REFUSALS, "RESOURCE_EXHAUSTED", "UNAVAILABLE"),
    )
    return f"a message of {OVERSIZED_BYTES} bytes was refused"


async def lets_go_of_what_nobody_waits_for(case: RewardCase) -> str:
    """Requests whose callers have left keep no place from others."""
    began = time.perf_counter()
    await case.scores(case.items())
    usual_s = time.perf_counter() - began
    short_s = max(usual_s / 2, 0.001)
    count = 2 * max(case.spec.max_concurrency, _LEAVERS // 2)
    await asyncio.gather(*(_leave(case, number, short_s) for number in range(count)))
    began = time.perf_counter()
    try:
        await _when_free(case)
    except (Fault, DeadlineExceeded) as end:
        raise Failed(f"after {count} callers had left, the next was not served: {end}") from end
    after_s = time.perf_counter() - began
    if after_s > 10 * usual_s + 1:
        raise Warned(f"a request took {usual_s:.3f} s, and after {count} callers had left {after_s:.3f} s")
    return f"{count} callers left; the next was served in {after_s:.3f} s"


async def demands_the_token(case: RewardCase) -> str:
    """Without the token, or with a wrong one, nothing is told and nothing judged."""
    if case.place.token is None:
        raise Skipped("no token was given: say --token if the endpoint has one")
    for token, what in WRONG_TOKENS:
        line = case.dial(case.place.with_token(token))
        try:
            await keeps_out(line.describe_scorer(), f"Describe with {what}")
            await keeps_out(line.score(request_of(case.items())), f"a batch with {what}")
            if line.bound:
                await keeps_out(line.score_stream(case.items()[:1]), f"a stream with {what}")
        finally:
            await line.close()
    return "no token, a wrong one and an empty one were refused"


async def tells_its_health(case: RewardCase) -> str:
    """`grpc.health.v1`, or `/healthz` over HTTP, says that it serves."""
    return await healthy(case.line)


async def _refuses(case: RewardCase, what: str, request: reward_pb2.ScoreRequest | bytes, codes: Sequence[str]) -> None:
    """Raises Failed unless the request ends in one of these statuses, and the next one is served."""
    try:
        await case.line.score(request)
    except Fault as fault:
        if fault.code not in codes:
            raise Failed(f"{what} ended in {fault.told}, not {codes[0]}") from fault
    else:
        raise Failed(f"{what} was answered with scores")
    try:
        await case.scores(case.items())
    except (Fault, DeadlineExceeded) as end:
        raise Failed(f"{what} was refused, but the server is not well since: {end}") from end


async def _leave(case: RewardCase, number: int, after_s: float) -> None:
    """Ask, and wait for a part of the time that an answer takes."""
    with suppress(Fault, DeadlineExceeded):
        await case.line.score(request_of(case.items(f"leave/{number}")), timeout_s=after_s)


async def _when_free(case: RewardCase) -> None:
    async with deadline(case.place.patience_s, "a request to be served"):
        while True:
            try:
                await case.scores(case.items())
                return
            except Fault as fault:
                if fault.code != "RESOURCE_EXHAUSTED":
                    raise
            await asyncio.sleep(_PAUSE_S)


PROPERTIES = (
    Property(
        "tells its health",
        tells_its_health,
        why="load balancers and orchestrators ask before they send anything",
        remedy="over gRPC register grpc.health.v1 and set the empty name to SERVING; over HTTP answer GET /healthz",
    ),
    Property(
        "refuses malformed input",
        refuses_malformed,
        why="one client with a bug would take everybody's rewards with it",
        remedy="check that every item has an id of its own; answer INVALID_ARGUMENT (400) to what makes no sense",
    ),
    Property(
        "refuses oversized input",
        refuses_oversized,
        why="one message could fill the server's memory",
        remedy="set a limit for received messages in your server",
    ),
    Property(
        "demands its token",
        demands_the_token,
        why="anybody in the network could use the endpoint, or read its tasks",
        remedy="compare `authorization: Bearer ...` in every call; answer UNAUTHENTICATED (401)",
    ),
)
"""In the order in which they are examined."""
LAST = (
    Property(
        "lets go of what nobody waits for",
        lets_go_of_what_nobody_waits_for,
        why="callers whose deadline has passed ask again; the work they left would pile up",
        remedy="stop judging when the call is cancelled, and give its place back in a `finally`",
    ),
)
"""Examined when all else is done: a broken server has no room left after it."""
