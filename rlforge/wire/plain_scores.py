"""Scores as an endpoint of a few lines writes them: a number, an object or a list instead of a ScoreResponse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rlforge.errors import DataError
from rlforge.types import Score
from rlforge.wire.json import from_json
from rlforge.wire.pb import reward_pb2, types_pb2
from rlforge.wire.scores import decode_score, decode_scores


def read_scores(data: Any, items: Sequence[str], scorer: str) -> dict[str, Score]:
    """Scores by item id, from a ScoreResponse or from what stands for one.

    A number is a value; an object of numbers is components, their sum the value, or its entry `reward` where there is
    one; null is no opinion; a list holds one of these for each item, in order, or scores with ids. What is none of
    these is `malformed`, unscored. Raises DataError when it cannot be told which answer belongs to which item.
    """
    if isinstance(data, Mapping) and "scores" in data:
        return decode_scores(from_json(data, reward_pb2.ScoreResponse), scorer)
    answers = cast(list[Any], data) if isinstance(data, list) else [data]
    if answers and all(isinstance(answer, Mapping) and "id" in answer for answer in answers):
        response = reward_pb2.ScoreResponse(scores=[from_json(answer, types_pb2.Score) for answer in answers])
        return decode_scores(response, scorer)
    if len(answers) != len(items):
        raise DataError(f"it holds {len(answers)} scores for {len(items)} items; send one each, in order or with ids")
    return {item: _plain(answer, scorer) for item, answer in zip(items, answers, strict=True)}


def _plain(answer: Any, scorer: str) -> Score:
    if answer is None:
        return Score(scorer=scorer, error_kind="declined", reason="the endpoint answered null")
    if isinstance(answer, Mapping) and ("scored" in answer or "unscored" in answer):
        return decode_score(from_json(dict(cast(Mapping[str, Any], answer)), types_pb2.Score), scorer)
    parts = cast(Mapping[str, Any], answer) if isinstance(answer, Mapping) else {"reward": answer}
    numbers = {str(name): float(part) for name, part in parts.items() if _is_number(part)}
    if not parts or len(numbers) != len(parts):
        why = f"the answer is {answer!r:.200}; it must be a finite number, an object of them, or null"
        return Score(scorer=scorer, error_kind="malformed", reason=why)
    value = numbers.pop("reward", None)
    return Score(scorer=scorer, value=math.fsum(numbers.values()) if value is None else value, components=numbers)


def _is_number(part: Any) -> bool:
    try:
        return isinstance(part, bool | int | float) and math.isfinite(part)
    except OverflowError:  # a whole number beyond every float
        return False
