"""What a reward endpoint promises, here and behind every kind of address."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from rlforge.interfaces import RewardEndpoint
from rlforge.registry import TRANSPORTS
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_reward
from tests.reached import HERE, served
from tests.rollouts import rollout

FUNCTION = """
def reward(rollout):
    if rollout.text == "boom":
        raise ValueError("a judge has fainted")
    if rollout.text == "none":
        return None
    return {"correct": rollout.text == rollout.task.answer, "length": -0.01 * len(rollout.text)}
"""


@asynccontextmanager
async def reached(scheme, file):
    file.write_text(FUNCTION)
    here = connect_reward(EndpointConfig(address=f"{HERE}:{file}:reward"))
    if scheme == HERE:
        yield here
        return
    async with served(here, scheme, file.parent) as endpoint:
        yield connect_reward(endpoint)


@pytest.fixture(params=TRANSPORTS.names())
async def endpoint(request, tmp_path):
    async with reached(request.param, tmp_path / "reward.py") as made:
        yield made
        await made.close()


async def judged(endpoint, *replies, request_id="1"):
    items = {f"item/{place}": rollout(reply) for place, reply in enumerate(replies)}
    return await endpoint.score(items, request_id=request_id, timeout_s=5)


async def test_it_says_what_it_is(endpoint):
    assert isinstance(endpoint, RewardEndpoint)
    assert (await endpoint.describe()).name == "reward"


async def test_every_item_gets_the_score_that_belongs_to_it(endpoint):
    scores = await judged(endpoint, "46", "7", "46")
    assert {item: round(score.value, 6) for item, score in scores.items()} == {
        "item/0": 0.98,
        "item/1": -0.01,
        "item/2": 0.98,
    }
    assert scores["item/0"].components == {"correct": 1.0, "length": -0.02}


async def test_a_failure_is_unscored_and_says_what_happened_and_the_others_keep_their_scores(endpoint):
    scores = await judged(endpoint, "boom", "46", "none")
    assert (scores["item/0"].value, scores["item/0"].error_kind) == (None, "exception")
    assert "a judge has fainted" in scores["item/0"].reason
    assert "reward.py:4 in reward" in scores["item/0"].reason
    assert (scores["item/2"].value, scores["item/2"].error_kind) == (None, "declined")
    assert scores["item/1"].scored


async def test_requests_that_overlap_do_not_mix(endpoint):
    one, other = await asyncio.gather(judged(endpoint, *["46"] * 20), judged(endpoint, *["none"] * 20, request_id="2"))
    assert all(score.scored for score in one.values())
    assert not any(score.scored for score in other.values())


async def test_no_items_get_no_scores(endpoint):
    assert await judged(endpoint) == {}


async def test_closing_twice_is_fine(endpoint):
    await judged(endpoint, "46")
    await endpoint.close()
    await endpoint.close()
