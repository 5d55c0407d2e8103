"""Scores and score requests on the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlforge.errors import DataError
from rlforge.types import Rollout, Score, ScorerSpec
from rlforge.wire.pb import reward_pb2 as pb
from rlforge.wire.pb import types_pb2
from rlforge.wire.refusal import refuses
from rlforge.wire.rollouts import decode_rollout, put_rollout
from rlforge.wire.version import PROTOCOL_VERSION, refuse_other_protocols


@refuses("a score request")
def encode_score_request(items: Mapping[str, Rollout], request_id: str) -> pb.ScoreRequest:
    """A batch of rollouts to judge, by item id."""
    request = pb.ScoreRequest(request_id=request_id)
    for item, rollout in items.items():
        put_rollout(rollout, request.items.add(id=item).rollout)
    return request


def decode_score_request(request: pb.ScoreRequest) -> dict[str, Rollout]:
    """Rollouts by item id. Raises DataError for an id that is missing or comes twice."""
    items = {item.id: decode_rollout(item.rollout) for item in request.items}
    if "" in items or len(items) != len(request.items):
        raise DataError(f"score request '{request.request_id}': every item needs an id of its own")
    return items


@refuses("a score")
def encode_score(item: str, score: Score) -> types_pb2.Score:
    """The score of one item."""
    if score.value is None:
        unscored = types_pb2.Unscored(
            kind=score.error_kind or "exception", reason=score.reason, retryable=score.retryable
        )
        return types_pb2.Score(id=item, unscored=unscored)
    scored = types_pb2.Scored(value=score.value, components=score.components, reason=score.reason)
    return types_pb2.Score(id=item, scored=scored)


def decode_score(score: types_pb2.Score, scorer: str) -> Score:
    """The score that was sent; one without an outcome, a value or finite numbers is `malformed`, unscored."""
    match score.WhichOneof("outcome"):
        case "scored":
            return _decode_scored(score.scored, scorer)
        case "unscored":
            said = score.unscored
            return Score(
                scorer=scorer, error_kind=said.kind or "declined", reason=said.reason, retryable=said.retryable
            )
        case _:
            return _malformed(scorer, "the score is neither scored nor unscored")


def decode_scores(response: pb.ScoreResponse, scorer: str) -> dict[str, Score]:
    """Scores by item id: the first that came for each. Later ones stand under ids that no item has, to be counted."""
    scores: dict[str, Score] = {}
    for place, score in enumerate(response.scores):
        known = score.id in scores
        scores[f"{score.id} again, {place}" if known else score.id] = decode_score(score, scorer)
    return scores


def _decode_scored(scored: types_pb2.Scored, scorer: str) -> Score:
    if not scored.HasField("value"):
        return _malformed(scorer, "the score is scored but has no value")
    value, components = scored.value, dict(scored.components) if scored.components else {}
    for name, number in (("value", value), *components.items()):
        if not math.isfinite(number):
            return _malformed(scorer, f"the score's '{name}' is {number}; it must be finite")
    return Score(scorer=scorer, value=value, components=components, reason=scored.reason)


def _malformed(scorer: str, why: str) -> Score:
    return Score(scorer=scorer, error_kind="malformed", reason=why)


@refuses("the spec of a scorer")
def encode_scorer_spec(spec: ScorerSpec) -> pb.ScorerSpec:
    """What a reward endpoint is."""
    return pb.ScorerSpec(
        name=spec.name,
        version=spec.version,
        protocol_version=PROTOCOL_VERSION,
        max_batch=spec.max_batch,
        max_concurrency=spec.max_concurrency,
    )


def decode_scorer_spec(spec: pb.ScorerSpec) -> ScorerSpec:
    """The spec that was sent. Raises EndpointRefused for another protocol."""
    refuse_other_protocols(spec.protocol_version, f"scorer '{spec.name}'")
    return ScorerSpec(
        name=spec.name, version=spec.version, max_batch=spec.max_batch, max_concurrency=spec.max_concurrency
    )
