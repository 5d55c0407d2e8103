"""An evaluation keeps what was said of each task, and says nothing when too little was scored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rlforge.errors import DataError, TooManyUnscored
from rlforge.loops.evaluate import EvaluationConfig, Evaluator
from rlforge.loops.rl import RLConfig
from rlforge.loops.sft import SFTConfig
from rlforge.loops.stage import StageConfig
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


class Asked:
    """Keeps what it is asked for, and gives right replies."""

    def __init__(self) -> None:
        self.requests: list[GroupRequest] = []

    async def collect(self, requests: Sequence[GroupRequest]) -> list[Group]:
        self.requests += requests
        return [
            Group(request=asked, rollouts=(replace(rollout(), task=asked.task, reward=RIGHT),)) for asked in requests
        ]


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


DATA = [{"type": "text", "path": "-"}]
RL = RLConfig.parse(
    {
        "name": "rl",
        "data": DATA,
        "steps": 1,
        "sampling": {"max_new_tokens": 2048, "stop": ["</answer>"]},
        "group_deadline_s": 1800,
    }
)
SFT = SFTConfig.parse({"name": "sft", "data": DATA, "steps": 1})


@pytest.mark.parametrize(
    ("stage", "said", "played"),
    [
        (RL, {}, (2048, ("</answer>",), 1800.0)),
        (RL, {"max_new_tokens": 16, "stop": [], "group_deadline_s": 60}, (16, (), 60.0)),
        (SFT, {}, (256, (), 600.0)),
        (SFT, {"stop": ["\n"]}, (256, ("\n",), 600.0)),
    ],
)
async def test_an_evaluation_plays_as_its_stage_does_unless_it_says_otherwise(
    stage: StageConfig, said: dict[str, Any], played: tuple[int, tuple[str, ...], float]
) -> None:
    asked: Any = Asked()
    config = EvaluationConfig.parse({"data": DATA, "samples": 1, "temperature": 0.5, **said})
    await Evaluator(config, [Tasks()], asked, 0, stage=stage.play).evaluate(0)
    given = {(r.sampling.max_new_tokens, r.sampling.stop, r.deadline_s) for r in asked.requests}
    assert given == {played}
    assert {request.sampling.temperature for request in asked.requests} == {0.0, 0.5}
