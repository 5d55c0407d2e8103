"""The function that `reasoning_gym.py` runs in a process of its own; the only module that imports the library."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, cast

import reasoning_gym
import regex

from rlforge.errors import DataError
from rlforge.types import Rollout

_TAGGED = regex.compile(r"(?s)<answer>(.*?)</answer>")


def score(rollout: Rollout, pattern: str | None = None) -> float:
    """What the verifier of the task's dataset makes of the answer in the last reply."""
    task = rollout.task.info.get("reasoning_gym")
    if task is None:
        raise DataError(
            f"task '{rollout.task.id}' of source '{rollout.task.source}' is not a reasoning-gym task: its info has no "
            "'reasoning_gym'. Name the sources this scorer judges in its `sources`"
        )
    answer = answer_in(rollout.text, pattern)
    if answer is None:
        return 0.0
    verifier = _verifier(task["dataset"], json.dumps(task.get("config", {}), sort_keys=True))
    return float(verifier.score_answer(answer=answer, entry=task["entry"]))


def answer_in(text: str, pattern: str | None) -> str | None:
    """The answer part of a reply; None where a pattern was given and does not match."""
    found = list((regex.compile(pattern) if pattern else _TAGGED).finditer(text))
    if found:
        return cast(str, found[-1].group(1) or "").strip()
    return None if pattern else text.strip()


@lru_cache(maxsize=256)
def _verifier(dataset: str, config: str) -> Any:
    return reasoning_gym.create_dataset(dataset, size=1, seed=0, **json.loads(config))
