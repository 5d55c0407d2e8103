"""The regex scorer: what it matches, what it leaves unscored, and that no pattern hangs it."""

import asyncio
import time

import pytest

from rlforge.errors import ConfigError
from rlforge.rewards.regex import RegexScorer
from tests.rollouts import rollout


async def judge(rollouts, **config):
    scorer = RegexScorer(RegexScorer.Config.parse({"type": "regex", **config}))
    await scorer.start()
    return await scorer.score(rollouts)


async def test_pattern_is_found_anywhere_unless_it_must_cover_the_reply():
    replies = [rollout("so 46."), rollout("46")]
    assert [score.value for score in await judge(replies, pattern=r"\d+")] == [1, 1]
    assert [score.value for score in await judge(replies, pattern=r"\d+", full_match=True)] == [0, 1]


async def test_values_of_match_and_no_match_are_configured():
    scores = await judge([rollout("yes"), rollout("no")], pattern="yes", on_match=0.5, on_no_match=-1)
    assert [score.value for score in scores] == [0.5, -1]


async def test_answer_in_a_pattern_is_taken_literally():
    replies = [rollout("it is 1+1", answer="1+1"), rollout("it is 111", answer="1+1")]
    assert [score.value for score in await judge(replies, pattern="is {answer}$")] == [1, 0]


async def test_captured_group_is_compared_with_the_answer():
    replies = [rollout("<answer> 46 </answer>"), rollout("<answer>47</answer>"), rollout("46")]
    scores = await judge(replies, pattern="<answer>(?P<said>.*?)</answer>", answer_group="said")
    assert [score.value for score in scores] == [1, 0, 0]


async def test_group_that_took_no_part_in_the_match_is_no_match():
    [score] = await judge([rollout("b")], pattern="(a)|b", answer_group=1)
    assert score.value == 0


async def test_task_without_an_answer_is_unscored_when_the_pattern_needs_one():
    [score] = await judge([rollout(answer=None)], pattern="{answer}")
    assert (score.value, score.error_kind) == (None, "no_answer")
    assert "addition/0" in score.reason


async def test_catastrophic_pattern_is_stopped_and_stops_nobody_else():
    beats = 0

    async def heart():
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(heart())
    started = time.perf_counter()
    slow, quick = await judge([rollout("a" * 60 + "!"), rollout("aaa")], pattern="(a|aa)+$", timeout_s=1.0)
    beating.cancel()
    assert (slow.value, slow.error_kind) == (None, "timeout")
    assert "1 s" in slow.reason
    assert quick.value == 1
    assert time.perf_counter() - started < 20
    assert beats > 5


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pattern": "(a"}, "missing ) at position 2"),
        ({"pattern": "a", "answer_group": 1}, "no such group"),
        ({"pattern": "(?P<x>a)", "answer_group": "y"}, "no such group"),
        ({"pattern": "a", "full_mach": True}, "Did you mean 'full_match'"),
        ({}, "'pattern' is missing"),
        ({"pattern": "a", "timeout_s": 0}, "timeout_s"),
        ({"pattern": "a", "clip": [1, 0]}, "lower bound first"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(config, said):
    with pytest.raises(ConfigError) as refused:
        RegexScorer.Config.parse({"type": "regex", **config})
    assert said in str(refused.value)
