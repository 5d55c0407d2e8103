"""An evaluation keeps what was said of each task, and says nothing when too little was scored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rlforge.errors import DataError, TooManyUnscored
from rlforge.loops.evaluate import EvaluationConfig, Evaluator
from rlforge.types import Group, GroupRequest, Message, Reward, Score, Task
from tests.rollouts import rollout


class Tasks:
    """Four tasks."""

    name = "four"

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Task:
        return Task(id=f"four/{index}", messages=(Message.of("user", "1+1="),))


class Played:
    """Plays nothing: gives each task a reward in turn."""

    def __init__(self, *rewards: Reward) -> None:
        self._rewards = rewards

    async def collect(self, requests: Sequence[GroupRequest]) -> list[Group]:
        given = zip(requests, self._rewards, strict=True)
        return [Group(request=asked, rollouts=(replace(rollout(), task=asked.task, reward=r),)) for asked, r in given]


RIGHT = Reward(value=1.0, scores=(Score(scorer="exact", value=1.0, reason="equal"), Score(scorer="short", value=1.0)))
SHUT = Reward(value=0.0, scores=(Score(scorer="form", value=0.0, reason="no box"),), reason="gate 'form' closed: 0 < 1")
TOLD = Score(scorer="exact", reason="too slow", error_kind="timeout")
UNSCORED = Reward(value=None, scores=(TOLD,), reason="scorer 'exact': timeout: too slow")


def evaluator(*rewards: Reward, max_unscored: float) -> Evaluator:
    played: Any = Played(*rewards)
    config = EvaluationConfig.parse({"data": [{"type": "text", "path": "-"}]})
    return Evaluator(config, [Tasks()], played, 0, max_unscored)


async def test_each_task_keeps_what_the_scorers_said() -> None:
    found = await evaluator(RIGHT, SHUT, UNSCORED, RIGHT, max_unscored=0.25).evaluate(0)
    assert [result.reason for result in found.results] == [
        "exact: equal",
        "gate 'form' closed: 0 < 1; form: no box",
        "scorer 'exact': timeout: too slow",
        "exact: equal",
    ]
    assert found.metrics["eval/held_out/unscored_share"] == 0.25


async def test_accuracy_of_the_few_that_were_scored_is_refused() -> None:
    with pytest.raises(TooManyUnscored, match=r"evaluation 'held_out', greedy attempts: 2 of 4 .*timeout x2"):
        await evaluator(RIGHT, UNSCORED, UNSCORED, RIGHT, max_unscored=0.25).evaluate(0)


def test_two_sources_of_one_name_are_refused_instead_of_counted_as_one() -> None:
    nobody: Any = None
    config = EvaluationConfig.parse({"data": [{"type": "text", "path": "-"}]})
    with pytest.raises(DataError, match=r"two sources are called 'four'.*set name on one"):
        Evaluator(config, [Tasks(), Tasks()], nobody, 0)
