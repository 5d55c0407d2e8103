"""Reward servers in plain grpc.aio: one that is right, and one for each way to be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio

from rlforge.wire.pb import reward_pb2 as pb
from rlforge.wire.pb import types_pb2
from rlforge.wire.pb.reward_pb2_grpc import RewardServicer

Code = grpc.StatusCode
MOST = 2 * 2**20


class Exact(RewardServicer):
    """Breaks nothing: 1 for the answer itself, else 0. Each way to be wrong overrides one of its methods."""

    token = ""

    def __init__(self) -> None:
        self.health = "SERVING"
        self.most_received = MOST

    # --- the calls

    async def Describe(self, request: pb.DescribeScorerRequest, context: Any) -> pb.ScorerSpec:  # noqa: N802
        await self.let_in(context)
        return self.spec()

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:  # noqa: N802
        await self.let_in_score(context)
        if self.makes_no_sense(request):
            await self.refuse(context)
        return pb.ScoreResponse(request_id=request.request_id, scores=await self.scores(list(request.items), context))

    async def ScoreStream(self, requests: Any, context: Any) -> AsyncIterator[types_pb2.Score]:  # noqa: N802
        await self.let_in(context)
        async for item in requests:
            for score in self.streamed(item):
                yield score

    # --- what they are made of

    def spec(self) -> pb.ScorerSpec:
        return pb.ScorerSpec(name="exact", version="1", protocol_version=1, max_batch=64)

    async def let_in(self, context: Any) -> None:
        given = dict(context.invocation_metadata() or ()).get("authorization")
        if self.token and given != f"Bearer {self.token}":
            await context.abort(Code.UNAUTHENTICATED, "the token is missing or wrong")

    async def let_in_score(self, context: Any) -> None:
        await self.let_in(context)

    def makes_no_sense(self, request: pb.ScoreRequest) -> bool:
        ids = [item.id for item in request.items]
        return "" in ids or len(set(ids)) != len(ids)

    async def refuse(self, context: Any) -> None:
        await context.abort(Code.INVALID_ARGUMENT, "every item needs an id of its own")

    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        return [self.score(item) for item in items]

    def streamed(self, item: pb.ScoreItem) -> list[types_pb2.Score]:
        return [self.score(item)]

    def score(self, item: pb.ScoreItem) -> types_pb2.Score:
        if not item.rollout.turns:
            return unscored(item, "there is no reply")
        return scored(item, self.value(item.rollout))

    def value(self, rollout: types_pb2.Rollout) -> float:
        said = "".join(part.text for part in rollout.turns[-1].message.content)
        return float(said == rollout.task.answer.string_value)


def scored(item: pb.ScoreItem, value: float) -> types_pb2.Score:
    return types_pb2.Score(id=item.id, scored=types_pb2.Scored(value=value))


def unscored(item: pb.ScoreItem, reason: str) -> types_pb2.Score:
    return types_pb2.Score(id=item.id, unscored=types_pb2.Unscored(kind="declined", reason=reason))


class SpeaksAnotherProtocol(Exact):
    def spec(self) -> pb.ScorerSpec:
        spec = super().spec()
        spec.protocol_version = 0
        return spec


class LosesOne(Exact):
    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        return (await super().scores(items, context))[:-1]


class DoublesOne(Exact):
    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        scores = await super().scores(items, context)
        return [*scores, scores[0]]


class RenamesThem(Exact):
    def score(self, item: pb.ScoreItem) -> types_pb2.Score:
        score = super().score(item)
        score.id = score.id.rpartition("/")[2]
        return score


class LosesOneInStreams(Exact):
    def streamed(self, item: pb.ScoreItem) -> list[types_pb2.Score]:
        return [] if item.id.endswith("/3") else [self.score(item)]


class GoesByPlace(Exact):
    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        return [scored(item, place) for place, item in enumerate(items)]


class GoesByCount(Exact):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        self.count += 1
        return [scored(item, self.count) for item in items]


class GoesById(Exact):
    def score(self, item: pb.ScoreItem) -> types_pb2.Score:
        return scored(item, float("again" in item.id))


class Normalises(Exact):
    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        scores = await super().scores(items, context)
        mean = sum(score.scored.value for score in scores) / len(scores)
        for score in scores:
            score.scored.value -= mean
        return scores


class FailsAsAWhole(Exact):
    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        if any(not item.rollout.turns for item in items):
            await context.abort(Code.ABORTED, "list index out of range")
        return await super().scores(items, context)


class DividesByZero(Exact):
    def value(self, rollout: types_pb2.Rollout) -> float:
        return float("nan")


class ScoresWithoutAValue(Exact):
    def score(self, item: pb.ScoreItem) -> types_pb2.Score:
        return types_pb2.Score(id=item.id, scored=types_pb2.Scored(reason="fine"))


class LikesEverything(Exact):
    def value(self, rollout: types_pb2.Rollout) -> float:
        return 1.0


class SaysNotServing(Exact):
    def __init__(self) -> None:
        super().__init__()
        self.health = "NOT_SERVING"


class TakesNonsense(Exact):
    def makes_no_sense(self, request: pb.ScoreRequest) -> bool:
        return False


class FallsOverNonsense(Exact):
    """Refuses, and is no good any more."""

    def __init__(self) -> None:
        super().__init__()
        self.fallen = False

    async def let_in_score(self, context: Any) -> None:
        if self.fallen:
            await context.abort(Code.INTERNAL, "the server has fallen over")

    async def refuse(self, context: Any) -> None:
        self.fallen = True
        await super().refuse(context)


class SwallowsAnySize(Exact):
    def __init__(self) -> None:
        super().__init__()
        self.most_received = -1


class LetsAnybodyScore(Exact):
    """Asks for the token in Describe, and forgets Score."""

    async def let_in_score(self, context: Any) -> None:
        return


class BearsOneClient(Exact):
    """A second connection breaks it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ""

    async def let_in_score(self, context: Any) -> None:
        self.first = self.first or context.peer()
        if context.peer() != self.first:
            await context.abort(Code.ABORTED, "the model is loaded twice")


class ClingsToItsPlaces(Exact):
    """Two at once; who leaves keeps a place."""

    def __init__(self) -> None:
        super().__init__()
        self.places = 2

    def spec(self) -> pb.ScorerSpec:
        spec = super().spec()
        spec.max_concurrency = 2
        return spec

    async def scores(self, items: Sequence[pb.ScoreItem], context: Any) -> list[types_pb2.Score]:
        if not self.places:
            await context.abort(Code.RESOURCE_EXHAUSTED, "two are under way")
        self.places -= 1
        await asyncio.sleep(0.1)
        self.places += 1
        return await super().scores(items, context)


class ScoresFaultsZero(Exact):
    def score(self, item: pb.ScoreItem) -> types_pb2.Score:
        return super().score(item) if item.rollout.turns else scored(item, 0.0)


BROKEN: dict[type[Exact], str] = {
    SpeaksAnotherProtocol: "describes itself",
    LosesOne: "answers every item once",
    DoublesOne: "answers every item once",
    RenamesThem: "answers every item once",
    LosesOneInStreams: "streams every item once",
    GoesByPlace: "order does not matter",
    GoesByCount: "the same item is judged alike",
    GoesById: "the same item is judged alike",
    Normalises: "an item is judged by itself",
    FailsAsAWhole: "a bad item leaves the others scored",
    DividesByZero: "values are finite",
    ScoresWithoutAValue: "values are finite",
    LikesEverything: "the right answer earns more than nothing",
    SaysNotServing: "tells its health",
    TakesNonsense: "refuses malformed input",
    FallsOverNonsense: "refuses malformed input",
    SwallowsAnySize: "refuses oversized input",
    LetsAnybodyScore: "demands its token",
    BearsOneClient: "bears the load",
    ClingsToItsPlaces: "lets go of what nobody waits for",
}
"""Every way to be wrong, and the property it lacks; a fault that is scored 0 is a warning only."""
