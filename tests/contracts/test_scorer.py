"""What every registered scorer promises the router."""

import asyncio

import pytest

from rlforge.config import build, config_class
from rlforge.hosting.serve import serving
from rlforge.interfaces import Scorer
from rlforge.registry import SCORERS
from rlforge.rewards.config import ScorerConfig
from tests.rollouts import rollout
from tests.unit.rewards.judge_server import judging

FUNCTION = "def reward(rollout):\n    return float(rollout.text == rollout.task.answer)\n"
TASK = {
    "reasoning_gym": {
        "dataset": "chain_sum",
        "config": {},
        "entry": {"question": "12 + 34 =", "answer": "46", "metadata": {"source_dataset": "chain_sum"}},
    },
    "tests": [{"stdout": "46"}],
}


def right(rollout):
    return float(rollout.text == rollout.task.answer)


@pytest.fixture(params=SCORERS.names())
def kind(request):
    return request.param


@pytest.fixture
async def address(kind):
    """What a scorer that asks somebody asks: a real server."""
    if kind in ("grpc", "http"):
        async with serving(right, f"{kind}://127.0.0.1:0") as served:
            yield served
    elif kind == "judge":
        async with judging() as server:
            yield server.address
    else:
        yield ""


@pytest.fixture
async def config(kind, address, tmp_path):
    """The least that each scorer needs; a new one without an entry here runs on its defaults."""
    (tmp_path / "reward.py").write_text(FUNCTION)
    least = {
        "grpc": {"address": address},
        "http": {"address": address},
        "judge": {"address": address, "model": "tiny", "rubric": "Is it right?"},
        "python": {"function": f"{tmp_path}/reward.py:reward"},
        "regex": {"pattern": "^{answer}$"},
        "unit_tests": {"code": "whole", "template": "print({code})"},
    }
    return config_class(SCORERS, kind).parse({"type": kind, **least.get(kind, {})})


@pytest.fixture
async def scorer(config):
    made = build(SCORERS, config)
    await made.start()
    yield made
    await made.close()


def replies():
    said = ["46", "47", "", "46", "what?", "4" * 5000, "46"]
    return [rollout(text, member=member, info=TASK) for member, text in enumerate(said)]


def facts(scores):
    return [(score.scorer, score.value, score.error_kind, score.reason, score.output) for score in scores]


async def test_right_answers_earn_more_than_wrong_ones_in_order(scorer):
    assert isinstance(scorer, Scorer)
    scores = await scorer.score(replies())
    assert [score.value == 1 for score in scores] == [True, False, False, True, False, False, True]
    assert all(score.scored and score.error_kind is None for score in scores)


async def test_every_score_carries_the_scorers_name_and_its_time(scorer):
    for score in await scorer.score(replies()):
        assert score.scorer == scorer.name
        assert score.seconds >= 0


async def test_same_rollouts_get_the_same_scores_alone_and_together(scorer):
    together = facts(await scorer.score(replies()))
    alone = [facts(await scorer.score([reply]))[0] for reply in replies()]
    assert together == alone


async def test_calls_that_overlap_do_not_mix(scorer):
    first, second = replies(), list(reversed(replies()))
    forth, back = await asyncio.gather(scorer.score(first), scorer.score(second))
    assert facts(forth) == list(reversed(facts(back)))


async def test_no_rollouts_get_no_scores(scorer):
    assert await scorer.score([]) == []


async def test_task_without_what_the_scorer_needs_is_never_an_exception(scorer):
    [score] = await scorer.score([rollout(answer=None)])
    assert (score.value is None) == (score.error_kind is not None)


async def test_closing_twice_is_fine(config):
    made = build(SCORERS, config)
    await made.close()
    await made.start()
    await made.close()
    await made.close()


async def test_configuration_derives_from_the_scorers_base_and_names_its_type(config):
    assert isinstance(config, ScorerConfig)
    assert config.label == config.type
    assert type(config).parse(config.model_dump(mode="json")) == config


async def test_every_setting_is_explained(config):
    unexplained = [
        name for name, field in type(config).model_fields.items() if name != "type" and not field.description
    ]
    assert unexplained == []
