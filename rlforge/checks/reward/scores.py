"""Whether a reward endpoint judges as the protocol says: each item once, by itself, always alike, never a made-up 0."""

from __future__ import annotations

import math

from rlforge.checks.fault import Fault
from rlforge.checks.properties import Failed, Property, Skipped, Warned
from rlforge.checks.reward.case import RewardCase, exactly_one, item_of, judged, must_differ, same_values, told
from rlforge.checks.reward.items import replied, senseless
from rlforge.wire.version import PROTOCOL_VERSION


async def describes_itself(case: RewardCase) -> str:
    """Describe answers twice alike, and with what a client can work with."""
    spec, again = case.spec, await case.line.describe_scorer()
    version = spec.protocol_version
    wrong = ["name is empty"] if not spec.name else []
    wrong += [f"protocol_version is {version}, not {PROTOCOL_VERSION}"] if version != PROTOCOL_VERSION else []
    wrong += ["a second Describe says something else"] if spec != again else []
    if wrong:
        raise Failed("; ".join(wrong))
    limits = [f"{spec.max_batch} items a request"] if spec.max_batch else []
    limits += [f"{spec.max_concurrency} requests at once"] if spec.max_concurrency else []
    return f"'{spec.name}': {', '.join(limits) or 'no limits'}"


async def answers_every_item_once(case: RewardCase) -> str:
    """A batch brings exactly one score for each item, with its id, and the request's own id."""
    items = case.items()
    scores = await case.scores(items)
    unscored = [score for score in scores.values() if judged(score) is None]
    if len(unscored) == len(items):
        return f"{len(items)} items, {len(items)} scores, all {told(unscored[0])}"
    return f"{len(items)} items, {len(items)} scores, {len(unscored)} of them unscored"


async def streams_every_item_once(case: RewardCase) -> str:
    """Items sent one by one bring exactly one score each, and then the stream ends."""
    items = case.items("stream")
    try:
        scores = exactly_one(items, await case.line.score_stream(items))
    except Fault as fault:
        if fault.code == "UNIMPLEMENTED":
            raise Skipped(fault.said) from fault
        raise
    return f"{len(items)} items, {len(scores)} scores"


async def order_does_not_matter(case: RewardCase) -> str:
    """The same items in another order get the same values."""
    items = case.items()
    forwards = await case.scores(items)
    must_differ(forwards)
    same_values(forwards, await case.scores(items[::-1]), "asked again in the opposite order")
    return f"{len(items)} items judged alike in both orders"


async def judges_alike_again(case: RewardCase) -> str:
    """The same item sent again, under its id or another, gets the same value."""
    items = case.items()
    first = await case.scores(items)
    must_differ(first)
    same_values(first, await case.scores(items), "sent again")
    others = case.items("again")
    renamed = await case.scores(others)
    by_old_id = {old.id: renamed[new.id] for old, new in zip(items, others, strict=True)}
    same_values(first, by_old_id, "sent again under another id")
    return f"{len(items)} items judged alike three times"


async def judges_each_by_itself(case: RewardCase) -> str:
    """An item gets alone the value that it gets among others."""
    items = case.items()
    together = await case.scores(items)
    must_differ(together)
    for item in items:
        same_values(await case.scores([item]), together, "alone and in a batch")
    return f"{len(items)} items judged alone as in the batch"


async def bad_item_leaves_the_others(case: RewardCase) -> str:
    """An item that makes no sense does not take the scores of the others."""
    if case.spec.max_batch == 1:
        raise Skipped("it takes one item a request")
    items = case.items()
    clean = await case.scores(items)
    bad = item_of("check/senseless", senseless(case.rollouts[0]))
    try:
        scores = await case.scores([*items[: max(1, case.batch - 1)], bad])
    except Fault as fault:
        raise Failed(f"one item that makes no sense failed the whole batch: {fault.told}") from fault
    judged_beside = {item: score for item, score in scores.items() if item != bad.id}
    same_values(judged_beside, clean, "beside an item that makes no sense")
    return f"{len(judged_beside)} items kept their scores; the senseless one was {told(scores[bad.id])}"


async def values_are_finite(case: RewardCase) -> str:
    """Every value and component is a number, and there is one."""
    scores = await case.scores(case.items())
    for item, score in scores.items():
        if score.WhichOneof("outcome") is None:
            raise Failed(f"item '{item}' is neither scored nor unscored")
        if score.WhichOneof("outcome") == "scored":
            if not score.scored.HasField("value"):
                raise Failed(f"item '{item}' is scored without a value")
            numbers = {"value": score.scored.value, **score.scored.components}
            odd = [f"{name} {number}" for name, number in numbers.items() if not math.isfinite(number)]
            if odd:
                raise Failed(f"item '{item}' has {', '.join(odd)}")
        elif not score.unscored.reason:
            raise Warned(f"item '{item}' is unscored ({score.unscored.kind}) without a reason for people to read")
    return f"{len(scores)} scores, all finite"


async def failure_is_not_a_zero(case: RewardCase) -> str:
    """What makes no sense is left unscored."""
    bad = item_of("check/senseless", senseless(case.rollouts[0]))
    try:
        score = (await case.scores([bad]))[bad.id]
    except Fault as fault:
        return f"a rollout without a task and a reply was refused: {fault.told}"
    if judged(score) == 0:
        raise Warned(
            "a rollout of a broken world, without a task and a reply, is scored 0: see that faults in your own code "
            "are left unscored"
        )
    return f"a rollout without a task and a reply is {told(score)}"


async def right_earns_more_than_nothing(case: RewardCase) -> str:
    """Where the answer is known, replying with it earns more than an empty reply."""
    if not case.given:
        raise Skipped("there are no rollouts with answers: give some with --on")
    known = [rollout for rollout in case.rollouts if isinstance(rollout.task.answer, str | int | float)][: case.batch]
    if not known:
        raise Skipped("no rollout of --on has an answer that could be replied with")
    right = [item_of(f"right/{n}", replied(rollout, str(rollout.task.answer))) for n, rollout in enumerate(known)]
    empty = [item_of(f"empty/{n}", replied(rollout, "")) for n, rollout in enumerate(known)]
    for_right, for_empty = await case.scores(right), await case.scores(empty)
    short = [
        f"the answer '{rollout.task.answer}' of '{rollout.task.id}' earned {told(for_right[one.id])}, "
        f"an empty reply {told(for_empty[other.id])}"
        for rollout, one, other in zip(known, right, empty, strict=True)
        if not _more(judged(for_right[one.id]), judged(for_empty[other.id]))
    ]
    if short:
        raise Failed(f"{len(short)} of {len(known)}: {'; '.join(short[:3])}")
    return f"{len(known)} answers earned more than empty replies"


def _more(right: float | None, empty: float | None) -> bool:
    return right is not None and (empty is None or right > empty)


PROPERTIES = (
    Property(
        "describes itself",
        describes_itself,
        why="a client plans by it: how many items and requests, which protocol",
        remedy="answer Describe at once and always alike, with a name and protocol_version 1",
    ),
    Property(
        "answers every item once",
        answers_every_item_once,
        why="a missing score loses a rollout, a doubled one is somebody else's",
        remedy="answer each ScoreItem with one Score that has its `id`; say `unscored` where there is no value",
    ),
    Property(
        "streams every item once",
        streams_every_item_once,
        why="clients that stream wait for one score an item, and for the end",
        remedy="send one Score for each ScoreItem, and return when all are sent",
    ),
    Property(
        "order does not matter",
        order_does_not_matter,
        why="batches are put together by chance: a reward would depend on it",
        remedy="judge each item by its own content; find it by `id`, never by place",
    ),
    Property(
        "the same item is judged alike",
        judges_alike_again,
        why="retries and re-scoring send an item again; the reward must not change",
        remedy="use no clock, no counter and no unseeded chance; cache a judge's verdict by content",
    ),
    Property(
        "an item is judged by itself",
        judges_each_by_itself,
        why="a reward would depend on who else happens to be in the batch",
        remedy="do not normalise over the request; rlforge compares the members of a group itself",
    ),
    Property(
        "a bad item leaves the others scored",
        bad_item_leaves_the_others,
        why="one odd rollout would cost the rewards of its whole batch",
        remedy="catch errors around each item, and answer `unscored` for it alone",
    ),
    Property(
        "values are finite",
        values_are_finite,
        why="NaN and infinity cannot be trained on: the rollout is lost",
        remedy="look for divisions by zero and logarithms of 0; say `unscored` where there is no value",
    ),
    Property(
        "a failure is not a zero",
        failure_is_not_a_zero,
        why="a 0 for a fault teaches the policy that its reply was bad",
        remedy="answer `unscored` with a kind and a reason, retryable where asking again may help",
    ),
    Property(
        "the right answer earns more than nothing",
        right_earns_more_than_nothing,
        why="a policy cannot learn what the reward does not tell apart",
        remedy="judge the answer itself by hand: what did the scorer read, and what did it expect",
    ),
)
"""In the order in which they are examined."""
