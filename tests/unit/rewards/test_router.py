"""The router: weights, gates, routing, retries, and that a failure is never a zero."""

import time

import pytest

from rlforge.errors import ConfigError, DeadlineExceeded, ExtensionError
from rlforge.rewards import asking
from rlforge.rewards.router import Router
from rlforge.types import StopReason
from tests.rollouts import rollout
from tests.unit.rewards.fakes import ToldScorer

TOLD = "tests.unit.rewards.fakes:ToldScorer"


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(asking, "_BACKOFF_S", 0.001)
    for memory in (ToldScorer.started, ToldScorer.closed, ToldScorer.asked):
        memory.clear()


def told(name, says=None, **config):
    return {"type": TOLD, "name": name, "says": says or {}, **config}


async def reward(scorers, rollouts, **config):
    router = Router(Router.Config.parse({"scorers": scorers, **config}))
    await router.start()
    try:
        return await router.reward(rollouts)
    finally:
        await router.close()


async def test_reward_is_the_weighted_sum_of_values():
    [given] = await reward([told("a", {"46": 1}, weight=2), told("b", {"46": 0.5}, weight=-1)], [rollout()])
    assert given.value == 1.5
    assert [(score.scorer, score.value) for score in given.scores] == [("a", 1), ("b", 0.5)]


async def test_value_is_clipped_in_the_reward_and_not_in_the_log():
    [given] = await reward([told("a", {"46": 9}, clip=[0, 2])], [rollout()])
    assert given.value == 2
    assert given.scores[0].value == 9


async def test_unscored_by_a_scorer_that_counts_leaves_the_rollout_unscored():
    [given] = await reward([told("a", {"46": 1}), told("b", {"46": "exception"})], [rollout()])
    assert given.value is None
    assert given.reason == "scorer 'b': exception: told so"


async def test_shadow_scorer_never_changes_a_reward():
    replies = [rollout("x"), rollout("y")]
    scorers = [told("a", {"x": 1, "y": 1}), told("shadow", {"x": "exception", "y": 100}, weight=0)]
    assert [given.value for given in await reward(scorers, replies)] == [1, 1]


async def test_closed_gate_makes_the_reward_0_and_asks_no_further_scorer():
    scorers = [told("format", {"good": 1}, gate=1, weight=0.5), told("truth", {"good": 1, "bad": 1})]
    good, bad = await reward(scorers, [rollout("good"), rollout("bad")])
    assert (good.value, bad.value) == (1.5, 0)
    assert "gate 'format' closed" in bad.reason
    assert ("truth", ["good"]) in ToldScorer.asked


async def test_scorer_behind_a_closed_gate_cannot_leave_it_unscored():
    scorers = [told("format", gate=1), told("truth", {"46": "timeout"})]
    [given] = await reward(scorers, [rollout()])
    assert given.value == 0


async def test_unscored_gate_leaves_the_rollout_unscored():
    [given] = await reward([told("format", {"46": "crash"}, gate=1, weight=0), told("truth", {"46": 1})], [rollout()])
    assert given.value is None
    assert "format" in given.reason


async def test_scorer_judges_only_its_sources():
    scorers = [told("a", {"46": 1}, sources=["addition"]), told("b", {"46": 5}, sources=["logic"])]
    first, second, third = await reward(
        scorers, [rollout(), rollout(source="logic"), rollout(source="poems", task="poems/1")]
    )
    assert (first.value, second.value) == (1, 5)
    assert third.value is None
    assert "no scorer that counts judges source 'poems'" in third.reason


async def test_passing_fault_is_tried_again_and_the_attempts_are_told():
    [given] = await reward([told("a", {"46": ["timeout?", "timeout?", 1]}, attempts=3)], [rollout()])
    assert given.value == 1
    assert given.scores[0].attempts == 3


async def test_attempts_end_and_lasting_faults_are_not_tried_again():
    scorers = [told("a", {"x": ["timeout?", "timeout?", 1], "y": ["exception", 1]}, attempts=2)]
    passing, lasting = await reward(scorers, [rollout("x"), rollout("y")])
    assert (passing.value, lasting.value) == (None, None)
    assert ToldScorer.asked == [("a", ["x", "y"]), ("a", ["x"])]


@pytest.mark.parametrize("fault", [StopReason.TIMEOUT, StopReason.ENVIRONMENT_ERROR, StopReason.CANCELLED])
async def test_rollout_that_ended_with_a_fault_is_unscored_and_nobody_is_asked(fault):
    [given] = await reward([told("a", {"46": 1})], [rollout(stop_reason=fault, error="the world fell over")])
    assert given.value is None
    assert given.reason == f"the rollout ended with {fault.value}: the world fell over"
    assert ToldScorer.asked == []


@pytest.mark.parametrize("ending", [StopReason.MAX_TOKENS, StopReason.CONTEXT_OVERFLOW, StopReason.PARSE_ERROR])
async def test_rollout_that_the_policy_spoiled_is_scored(ending):
    [given] = await reward([told("a", {"46": 1})], [rollout(stop_reason=ending)])
    assert given.value == 1


@pytest.mark.parametrize(
    ("broken", "kind", "said"),
    [
        ("raise", "exception", "ZeroDivisionError"),
        ("unreachable", "exception", "nobody is there"),
        ("cancelled", "exception", "CancelledError"),
        ("short", "malformed", "1 scores for 2"),
    ],
)
async def test_scorer_that_breaks_its_promise_leaves_rollouts_unscored(broken, kind, said):
    given = await reward([told("a", broken=broken)], [rollout(), rollout()])
    assert [reward.value for reward in given] == [None, None]
    assert given[0].scores[0].error_kind == kind
    assert said in given[0].reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_value_that_is_not_finite_is_malformed(value):
    [given] = await reward([told("a", {"46": value})], [rollout()])
    assert given.value is None
    assert given.scores[0].error_kind == "malformed"


async def test_rewards_keep_the_order_of_rollouts_across_batches():
    replies = [rollout(str(number)) for number in range(20)]
    says = {str(number): number for number in range(20)}
    given = await reward([told("a", says)], replies, batch_size=3, concurrency=2)
    assert [reward.value for reward in given] == list(range(20))


async def test_failed_start_closes_what_was_started():
    router = Router(Router.Config.parse({"scorers": [told("a"), told("b", broken="start")]}))
    with pytest.raises(ConfigError, match="cannot start"):
        await router.start()
    assert ToldScorer.closed == ["a", "b"]


async def test_a_scorer_that_fails_to_close_is_named_and_holds_no_other_open():
    with pytest.raises(ExtensionError, match="scorer 'a' on closing: KeyError: 'never opened'"):
        await reward([told("a", {"46": 1}, broken="close"), told("b")], [rollout()])
    assert ToldScorer.closed == ["a", "b"]


async def test_a_scorer_that_hangs_when_it_is_closed_is_named_and_does_not_keep_the_others_open(monkeypatch):
    monkeypatch.setattr(asking, "CLOSE_S", 0.1)
    with pytest.raises(DeadlineExceeded, match="scorer 'a' to close"):
        await reward([told("a", {"46": 1}, broken="hang"), told("b")], [rollout()])
    assert ToldScorer.closed == ["a", "b"]


async def test_no_rollouts_make_no_rewards():
    assert await reward([told("a")], []) == []


@pytest.mark.parametrize(
    ("scorers", "said"),
    [
        ([{"type": "regex", "pattern": "a"}] * 2, "two scorers are called 'regex'"),
        ([{"type": "regex", "pattern": "a", "weight": 0}], "no scorer has a weight other than 0"),
        ([], "no scorer has a weight other than 0"),
        (["regx"], "Did you mean 'regex'"),
        ([{"type": "regex", "pattern": "(a"}], "position 2"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(scorers, said):
    with pytest.raises(ConfigError) as refused:
        Router.Config.parse({"scorers": scorers})
    assert said in str(refused.value)


async def test_router_costs_little_beside_the_scorers():
    replies = [rollout("46", member=member) for member in range(256)]
    router = Router(Router.Config.parse({"scorers": [told("a", {"46": 1})]}))
    await router.start()
    started = time.thread_time()  # other work on the machine is not ours
    await router.reward(replies)
    assert time.thread_time() - started < 0.1
    await router.close()
