"""The reward endpoint under examination: its line, what it judges, and how it is asked."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from rlforge.checks.line import RewardLine
from rlforge.checks.load import Load
from rlforge.checks.place import Place
from rlforge.checks.properties import Failed, Skipped
from rlforge.transports.config import EndpointConfig
from rlforge.types import Rollout
from rlforge.values import value
from rlforge.wire.pb import reward_pb2, types_pb2
from rlforge.wire.rollouts import encode_rollout


@value(eq=False)
class RewardCase:
    """What every property of a reward endpoint is examined with."""

    config: EndpointConfig
    place: Place
    dial: Callable[[Place], RewardLine]
    """A new connection."""
    line: RewardLine
    """The connection that most properties share."""
    spec: reward_pb2.ScorerSpec
    rollouts: Sequence[Rollout]
    """What is judged, at least two."""
    given: bool
    """Whether somebody gave them; else they are made up, and their values say nothing."""
    requests: int
    """Requests that are under way at once."""
    seconds: float
    """How long the load lasts."""
    loads: list[Load] = field(default_factory=lambda: list[Load]())
    """What was measured under load: one request at a time, then many."""

    @property
    def batch(self) -> int:
        """Items in one request: no more than it takes."""
        return min(len(self.rollouts), self.spec.max_batch or len(self.rollouts))

    @property
    def together(self) -> int:
        """Requests at once: no more than it takes."""
        return min(self.requests, self.spec.max_concurrency or self.requests)

    def items(self, prefix: str = "check") -> list[reward_pb2.ScoreItem]:
        """The rollouts of one request, each with an id of its own."""
        return [item_of(f"{prefix}/{n}", rollout) for n, rollout in enumerate(self.rollouts[: self.batch])]

    async def scores(self, items: Sequence[reward_pb2.ScoreItem]) -> dict[str, types_pb2.Score]:
        """The scores of one request by item id. Raises Failed unless there is exactly one for each."""
        response = await self.line.score(request_of(items))
        return exactly_one(items, response.scores)


def item_of(item: str, rollout: Rollout) -> reward_pb2.ScoreItem:
    """A rollout to be judged."""
    return reward_pb2.ScoreItem(id=item, rollout=encode_rollout(rollout))


def request_of(items: Sequence[reward_pb2.ScoreItem]) -> reward_pb2.ScoreRequest:
    """A request with an id of its own."""
    return reward_pb2.ScoreRequest(request_id=uuid.uuid4().hex, items=items)


def exactly_one(items: Sequence[reward_pb2.ScoreItem], scores: Sequence[types_pb2.Score]) -> dict[str, types_pb2.Score]:
    """The scores by item id. Raises Failed when one is missing, comes twice, or was not asked for."""
    asked, came = [item.id for item in items], [score.id for score in scores]
    missing = sorted(set(asked) - set(came))
    strange = sorted(set(came) - set(asked))
    double = sorted({name for name in came if came.count(name) > 1})
    for names, what in ((missing, "got no score"), (strange, "was not asked for"), (double, "got more than one score")):
        if names:
            more = f", and {len(names) - 1} more" if len(names) > 1 else ""
            raise Failed(f"of {len(asked)} items, '{names[0]}' {what}{more}")
    return {score.id: score for score in scores}


def judged(score: types_pb2.Score) -> float | None:
    """The value; None where unscored."""
    return score.scored.value if score.WhichOneof("outcome") == "scored" else None


def told(score: types_pb2.Score) -> str:
    """A score in a few words, for a person."""
    if score.WhichOneof("outcome") == "scored":
        return f"{score.scored.value:g}" if score.scored.HasField("value") else "scored without a value"
    return f"unscored ({score.unscored.kind or 'declined'}: {score.unscored.reason})"


def same_values(one: Mapping[str, types_pb2.Score], other: Mapping[str, types_pb2.Score], what: str) -> None:
    """Raises Failed that names the first item that was judged otherwise."""
    for item, score in one.items():
        if judged(score) != judged(other[item]):
            raise Failed(f"{what}: item '{item}' got {told(score)}, and then {told(other[item])}")


def must_differ(scores: Mapping[str, types_pb2.Score]) -> None:
    """Raises Skipped when no item was scored, so that nothing can be compared."""
    if all(judged(score) is None for score in scores.values()):
        first = next(iter(scores.values()))
        raise Skipped(f"every item came back {told(first)}; give rollouts that it can judge with --on")
