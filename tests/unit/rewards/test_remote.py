"""The scorers `grpc` and `http` over an endpoint in this process: ids, batches, retries, waiting, the circuit."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlforge.errors import (
    ConfigError,
    DataError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointRefused,
    EndpointUnavailable,
    ExtensionError,
)
from rlforge.rewards import asking
from rlforge.rewards.asking import Asked
from rlforge.rewards.remote import circuit, patience
from rlforge.rewards.remote.scorer import RemoteScorer, item_id
from rlforge.types import Score, ScorerSpec
from tests.rollouts import rollout
from tests.unit.rewards.endpoints import ToldEndpoint


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(asking, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(patience, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(circuit, "_FIRST_PROBE_S", 0.01)


def scorer_of(endpoint, **config):
    told = {"type": "grpc", "address": "grpc://localhost:1", **config}
    return RemoteScorer(RemoteScorer.Config.parse(told), endpoint=endpoint)


async def scores_of(endpoint, rollouts, **config):
    """As the router asks: with its retries."""
    scorer = scorer_of(endpoint, **config)
    asked = Asked(scorer.config, 64, scorer)
    await scorer.start()
    try:
        return await asked.scores(rollouts), scorer.metrics()
    finally:
        await scorer.close()


def replies(count):
    return [rollout("46" if member % 2 else "47", member=member) for member in range(count)]


RIGHT = [float(member % 2) for member in range(40)]


async def test_rollouts_are_judged_in_batches_and_in_order():
    endpoint = ToldEndpoint()
    scores, _ = await scores_of(endpoint, replies(40), batch_size=16)
    assert [score.value for score in scores] == RIGHT
    assert [len(ids) for ids in endpoint.asked] == [16, 16, 8]
    assert {score.scorer for score in scores} == {"grpc"}
    assert endpoint.closed


async def test_endpoint_may_ask_for_fewer_rollouts_and_fewer_requests():
    endpoint = ToldEndpoint(spec=ScorerSpec(name="small", max_batch=4, max_concurrency=2), seconds=0.01)
    scores, _ = await scores_of(endpoint, replies(40), batch_size=16)
    assert [score.value for score in scores] == RIGHT
    assert {len(ids) for ids in endpoint.asked} == {4}
    assert endpoint.busiest == 2


async def test_rollouts_of_many_calls_share_requests():
    endpoint = ToldEndpoint(seconds=0.02)
    scorer = scorer_of(endpoint, concurrency=2, batch_size=32)
    await scorer.start()
    first = [asyncio.create_task(scorer.score([one])) for one in replies(2)]
    await asyncio.sleep(0.01)
    rest = await asyncio.gather(*first, *(scorer.score([one]) for one in replies(30)))
    assert len(endpoint.asked) <= 3
    assert [score.value for (score,) in rest] == [*RIGHT[:2], *RIGHT[:30]]


async def test_item_keeps_its_id_over_retries_and_other_rollouts_have_others():
    endpoint = ToldEndpoint(EndpointBroken("500"), EndpointUnavailable("reset"))
    await scores_of(endpoint, replies(2))
    assert len(endpoint.asked) == 3
    assert len(set(endpoint.asked)) == 1
    assert endpoint.request_ids[1] == endpoint.request_ids[2], "the same request sent again keeps its id"
    ids = {item_id(one) for one in (*replies(2), rollout("46", task="addition/1"), rollout("48"), rollout("46"))}
    assert len(ids) == 5
    assert item_id(rollout("46")) == item_id(rollout("46"))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (EndpointBroken("500"), None),
        (DeadlineExceeded("slow"), None),
        (EndpointUnavailable("reset"), None),
        (EndpointBusy("429"), None),
        (EndpointRefused("401"), "refused"),
        (DataError("cannot travel"), None),
    ],
)
async def test_named_faults_are_tried_again_and_a_refusal_is_not(fault, kind):
    endpoint = ToldEndpoint(fault)
    scores, metrics = await scores_of(endpoint, replies(2))
    assert [score.error_kind for score in scores] == [kind] * 2
    assert [score.value for score in scores] == ([None, None] if kind else [0.0, 1.0])
    assert metrics["scorer_grpc/requests"] == len(endpoint.asked) + 1  # one is Describe


async def test_attempts_end_unscored_with_the_kind_of_the_fault():
    endpoint = ToldEndpoint(*[EndpointBroken("500: out of disk")] * 3)
    scores, _ = await scores_of(endpoint, replies(1), attempts=3)
    assert (scores[0].error_kind, scores[0].attempts, scores[0].value) == ("broken", 3, None)
    assert "out of disk" in scores[0].reason


async def test_unknown_answers_are_ignored_and_counted_and_missing_ones_asked_for_again():
    endpoint = ToldEndpoint()
    first = True

    def change(scores):
        nonlocal first
        kept = dict(list(scores.items())[1:]) if first else scores
        first = False
        return {**kept, "somebody-else": Score(scorer="", value=99.0)}

    endpoint.change = change
    scores, metrics = await scores_of(endpoint, replies(4))
    assert [score.value for score in scores] == RIGHT[:4]
    assert [score.attempts for score in scores] == [2, 1, 1, 1]
    assert metrics["scorer_grpc/ignored_answers"] == 2


async def test_score_that_never_comes_is_unscored_as_missing():
    endpoint = ToldEndpoint()
    endpoint.change = lambda scores: {}
    scores, _ = await scores_of(endpoint, replies(2), attempts=2)
    assert [(score.value, score.error_kind) for score in scores] == [(None, "missing")] * 2


async def test_one_rollout_that_cannot_travel_does_not_take_the_others_with_it():
    endpoint = ToldEndpoint()
    score = endpoint.score

    async def picky(items, **how):
        if any(one.text == "bad" for one in items.values()):
            raise DataError("a value cannot travel")
        return await score(items, **how)

    endpoint.score = picky
    endpoint.seconds = 0.01
    scores, _ = await scores_of(endpoint, [*replies(7), rollout("bad", member=7)], concurrency=1)
    assert [score.value for score in scores] == [*RIGHT[:7], None]
    assert scores[7].error_kind == "malformed"
    assert endpoint.busiest == 1, "the endpoint is asked no more at once than it said"
    assert [len(ids) for ids in endpoint.asked] == [4, 2, 1]


async def test_scorer_waits_while_the_endpoint_is_down_and_nothing_is_lost():
    endpoint = ToldEndpoint()
    endpoint.down = EndpointUnavailable("connection refused")

    async def back():
        await asyncio.sleep(0.3)
        endpoint.down = None

    task = asyncio.create_task(back())
    scores, metrics = await scores_of(endpoint, replies(40), batch_size=4, wait_for_endpoint_s=30)
    await task
    assert [score.value for score in scores] == RIGHT
    assert metrics["scorer_grpc/outages"] == 1
    assert 0.1 < metrics["scorer_grpc/outage_s"] < 20


async def test_a_busy_endpoint_is_asked_again_when_it_says_so_and_within_the_wait(monkeypatch):
    monkeypatch.setattr(patience, "_LONGEST_BACKOFF_S", 0.01)  # the backoff of ours is no limit on its advice
    began = time.monotonic()
    (score,), _ = await scores_of(ToldEndpoint(EndpointBusy("429", 0.4)), replies(1))
    assert score.scored
    assert 0.4 <= time.monotonic() - began < 10
    endpoint = ToldEndpoint(*[EndpointBusy("429", 3600.0)] * 9)
    (score,), _ = await scores_of(endpoint, replies(1), wait_for_endpoint_s=0.4)
    assert (score.value, score.error_kind) == (None, "busy")
    assert len(endpoint.asked) == 2
    assert time.monotonic() - began < 20


async def test_an_open_circuit_sends_one_request_at_a_time():
    endpoint = ToldEndpoint(seconds=0.005)
    scorer = scorer_of(endpoint, batch_size=1, concurrency=8, wait_for_endpoint_s=2.0, opens_after=3)
    await scorer.start()
    endpoint.down = EndpointUnavailable("connection refused")
    waiting = asyncio.create_task(scorer.score(replies(8)))
    await asyncio.sleep(0.1)
    endpoint.busiest = 0
    assert {score.error_kind for score in await waiting} == {"unavailable"}
    assert endpoint.busiest == 1, "half-open: one looks, the others wait"
    began = time.monotonic()
    scores = await scorer.score(replies(40))
    assert {score.error_kind for score in scores} == {"unavailable"}
    assert time.monotonic() - began < 1.8, "what was down for so long is not waited for again"
    endpoint.down = None
    async with asyncio.timeout(10):  # looks come at times drawn at random
        while not (await scorer.score(replies(1)))[0].scored:  # noqa: ASYNC110 (the endpoint tells nobody)
            await asyncio.sleep(0.05)
    await scorer.close()


async def test_an_endpoint_that_came_back_while_nobody_asked_judges_all_who_ask_then(monkeypatch):
    monkeypatch.setattr(circuit, "_LONGEST_PROBE_S", 0.05)
    endpoint = ToldEndpoint(seconds=0.01)
    scorer = scorer_of(endpoint, batch_size=1, concurrency=8, wait_for_endpoint_s=0.1, opens_after=3)
    await scorer.start()
    endpoint.down = EndpointUnavailable("connection refused")
    assert {score.error_kind for score in await scorer.score(replies(8))} == {"unavailable"}
    endpoint.down, outage_s = None, scorer.metrics()["scorer_grpc/outage_s"]
    await asyncio.sleep(1.5)  # the policy learns
    assert scorer.metrics()["scorer_grpc/outage_s"] == outage_s
    assert [score.value for score in await scorer.score(replies(8))] == RIGHT[:8]
    assert scorer.metrics()["scorer_grpc/outage_s"] < outage_s + 1.5
    await scorer.close()


async def test_time_in_which_nobody_asks_does_not_use_up_the_patience():
    endpoint = ToldEndpoint(EndpointBroken("500"), EndpointUnavailable("it restarts"))
    scorer = scorer_of(endpoint, wait_for_endpoint_s=0.2)
    await scorer.start()
    assert [score.error_kind for score in await scorer.score(replies(1))] == ["broken"]
    await asyncio.sleep(0.3)  # the policy learns
    assert [score.value for score in await scorer.score(replies(1))] == [0.0]
    await scorer.close()


async def test_request_that_the_endpoint_cannot_bear_does_not_wait_for_ever():
    endpoint = ToldEndpoint()
    score = endpoint.score

    async def fragile(items, **how):
        if any(one.text == "poison" for one in items.values()):
            raise EndpointUnavailable("connection reset")
        return await score(items, **how)

    endpoint.score = fragile
    scorer = scorer_of(endpoint, batch_size=1, wait_for_endpoint_s=60)
    await scorer.start()

    async def others():
        while True:
            await scorer.score(replies(1))
            await asyncio.sleep(0.001)

    task = asyncio.create_task(others())
    async with asyncio.timeout(20):
        (poisoned,) = await scorer.score([rollout("poison")])
    task.cancel()
    assert (poisoned.value, poisoned.error_kind) == (None, "unavailable")
    await scorer.close()


async def test_endpoint_that_refuses_us_stops_the_run_before_it_starts():
    endpoint = ToldEndpoint()

    async def refuse():
        raise EndpointRefused("the token is wrong")

    endpoint.describe = refuse
    with pytest.raises(ConfigError, match="the token is wrong"):
        await scorer_of(endpoint).start()


async def test_cancelled_calls_leave_nothing_waiting():
    endpoint = ToldEndpoint(seconds=0.05)
    scorer = scorer_of(endpoint, concurrency=1, batch_size=1)
    await scorer.start()
    call = asyncio.create_task(scorer.score(replies(10)))
    await asyncio.sleep(0.02)
    call.cancel()
    scores = await scorer.score(replies(1))
    assert scores[0].scored
    assert len(endpoint.asked) == 2, "the nine that nobody waited for were not sent"
    await scorer.close()


async def test_a_scorer_that_is_closed_leaves_nobody_waiting_and_asks_no_more():
    endpoint = ToldEndpoint(seconds=0.05)
    scorer = scorer_of(endpoint, concurrency=1, batch_size=1)
    await scorer.start()
    call = asyncio.create_task(scorer.score(replies(3)))
    await asyncio.sleep(0.02)
    await scorer.close()
    async with asyncio.timeout(10):
        assert {(score.value, score.error_kind) for score in await call} == {(None, "cancelled")}
        with pytest.raises(ExtensionError, match="after close"):
            await scorer.score(replies(1))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"type": "http", "address": "grpc://a:1"}, "begins with http://"),
        ({"type": "http", "address": "https://me:hunter2@a:1"}, "name a token"),
        ({"type": "grpc", "address": "localhost:1"}, "does not begin with"),
        ({"type": "grpc", "address": "grpc://a:1", "token": "hunter2"}, "env:NAME or file:PATH"),
        ({"type": "grpc"}, "'address' is missing"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(config, said):
    with pytest.raises(ConfigError) as refused:
        RemoteScorer.Config.parse(config)
    assert said in str(refused.value)
    assert "hunter2@" not in str(refused.value)
