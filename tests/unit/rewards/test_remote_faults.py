"""Remote scorers over real servers behind proxies that inject faults: no wrong reward, none lost, none doubled."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import asynccontextmanager

import pytest

from rlforge.hosting.serve import serving
from rlforge.rewards import asking
from rlforge.rewards.remote import circuit, patience
from rlforge.rewards.router import Router
from tests.faults import proxy as faults
from tests.rollouts import rollout


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(asking, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(patience, "_BACKOFF_S", 0.005)
    monkeypatch.setattr(patience, "_LONGEST_BACKOFF_S", 0.1)
    monkeypatch.setattr(circuit, "_FIRST_PROBE_S", 0.02)
    monkeypatch.setattr(circuit, "_LONGEST_PROBE_S", 0.1)


class Judged:
    """A reward of the length of the reply, which remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, rollout):
        self.asked.append(rollout.id)
        return float(len(rollout.text))


def replies(count):
    return [rollout("x" * (member % 7), member=member) for member in range(count)]


async def rewards_of(address, rollouts, **config):
    scheme = address.partition(":")[0]
    scorer = {"type": scheme, "address": address, "batch_size": 4, "attempts": 8, **config}
    router = Router(Router.Config.parse({"scorers": [scorer]}))
    await router.start()
    try:
        rewards = await asyncio.gather(*(router.reward([one]) for one in rollouts))
        return [given for (given,) in rewards], await router.metrics()
    finally:
        await router.close()


def assert_none_wrong(rewards, least_scored=1.0):
    wrong = [r.value for member, r in enumerate(rewards) if r.value not in (None, float(member % 7))]
    assert not wrong
    assert all(reward.scores[0].error_kind for reward in rewards if reward.value is None)
    assert sum(reward.value is not None for reward in rewards) >= least_scored * len(rewards)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_scorer_over_a_real_server(scheme):
    async with serving(Judged(), f"{scheme}://127.0.0.1:0", kind="reward") as address:
        rewards, metrics = await rewards_of(address, replies(60))
    assert_none_wrong(rewards)
    assert 15 <= metrics[f"scorer_{scheme}/requests"] <= 25


@asynccontextmanager
async def spoiled(scheme, thing, *changes):
    """A reward behind a proxy that changes answers, over HTTP or gRPC."""
    between = {"http": faults.http_proxy, "grpc": faults.grpc_proxy}[scheme]
    async with serving(thing, f"{scheme}://127.0.0.1:0", kind="reward") as real, between(real, *changes) as both:
        yield both


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize(
    "change",
    [
        faults.error_500,
        faults.unavailable_503,
        faults.not_json,
        faults.cut_off,
        faults.wrong_ids,
        faults.duplicated,
        faults.some_missing,
        faults.somebody_elses,
    ],
)
async def test_spoiled_answers_make_no_wrong_reward(scheme, change):
    async with spoiled(scheme, Judged(), change) as (proxy, address):
        rewards, metrics = await rewards_of(address, replies(80))
    assert proxy.done[change.__name__] >= 3
    assert_none_wrong(rewards)
    ignored = metrics[f"scorer_{scheme}/ignored_answers"]
    assert (ignored > 0) == (change in (faults.wrong_ids, faults.duplicated, faults.somebody_elses))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_an_answer_that_comes_after_the_deadline_with_another_value_is_never_recorded(scheme):
    judged = Judged()
    async with spoiled(scheme, judged, faults.late) as (proxy, address):
        rewards, metrics = await rewards_of(address, replies(80), timeout_s=0.3)
        await asyncio.sleep(0.6)  # the last late answer is on its way
    assert proxy.done["late"] >= 3
    assert_none_wrong(rewards)
    assert len(judged.asked) > 80
    assert metrics[f"scorer_{scheme}/requests"] > 20


async def test_answers_that_are_no_numbers_leave_their_rollouts_unscored():
    async with (
        serving(Judged(), "http://127.0.0.1:0", kind="reward") as real,
        faults.http_proxy(real, faults.not_finite) as (proxy, address),
    ):
        rewards, _ = await rewards_of(address, replies(40))
    assert proxy.done["not_finite"] >= 1
    assert_none_wrong(rewards, least_scored=0.3)
    assert {r.scores[0].error_kind for r in rewards if r.value is None} == {"malformed"}


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("fault", ["reset", "hang", "garbage", "drip"])
async def test_spoiled_connections_make_no_wrong_reward(scheme, fault):
    judged = Judged()
    async with serving(judged, f"{scheme}://127.0.0.1:0", kind="reward") as real:
        proxy = faults.Proxy(int(real.rpartition(":")[2]), faults=(fault,), share=0.4, seed=2, always_first=True)
        await proxy.start()

        async def drop_now_and_then():
            while True:  # new connections meet new faults
                await asyncio.sleep(0.1)
                await proxy.drop()

        dropping = asyncio.create_task(drop_now_and_then())
        try:
            address = f"{scheme}://127.0.0.1:{proxy.port}"
            batches = [await rewards_of(address, replies(30), timeout_s=1.0) for _ in range(3)]
        finally:
            dropping.cancel()
            await proxy.stop()
    assert proxy.done[fault] >= 1
    for rewards, _ in batches:
        assert_none_wrong(rewards, least_scored=0.9)
    assert set(judged.asked) == {one.id for one in replies(30)}


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_answers_that_drip_in_too_slowly_leave_their_rollouts_unscored_in_time(scheme):
    def wordy(rollout):
        return {"reward": 1.0, **{f"for part {number} of the reply": 1.0 for number in range(60)}}

    async with serving(wordy, f"{scheme}://127.0.0.1:0", kind="reward") as real:
        proxy = faults.Proxy(int(real.rpartition(":")[2]), faults=("drip",), share=1.0, pause_s=0.05)
        await proxy.start()
        address = f"{scheme}://127.0.0.1:{proxy.port}"
        async with asyncio.timeout(15):
            rewards, _ = await rewards_of(address, replies(40), batch_size=40, attempts=2, timeout_s=0.7)
        await proxy.stop()
    assert proxy.done["drip"] >= 1
    assert [reward.value for reward in rewards] == [None] * 40
    assert {(reward.scores[0].error_kind, reward.scores[0].attempts) for reward in rewards} == {("timeout", 2)}


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_server_that_is_gone_for_a_while_is_waited_for(scheme):
    async with serving(Judged(), f"{scheme}://127.0.0.1:0", kind="reward") as real:
        proxy = faults.Proxy(int(real.rpartition(":")[2]))
        await proxy.start()
        address = f"{scheme}://127.0.0.1:{proxy.port}"
        scorer = {"type": scheme, "address": address, "batch_size": 1, "opens_after": 2, "connect_timeout_s": 0.2}
        router = Router(Router.Config.parse({"scorers": [scorer]}))
        await router.start()
        await proxy.stop()
        waiting = asyncio.create_task(router.reward(replies(20)))
        async with asyncio.timeout(20):
            while not (await router.metrics())[f"scorer_{scheme}/outages"]:  # noqa: ASYNC110 (a counter has no event)
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await proxy.start(proxy.port)
        rewards = await waiting
        metrics = await router.metrics()
        await router.close()
        await proxy.stop()
    assert_none_wrong(rewards)
    assert metrics[f"scorer_{scheme}/outages"] == 1
    assert metrics[f"scorer_{scheme}/outage_s"] > 0.3


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_server_that_stays_away_leaves_rollouts_unscored_in_time(scheme):
    async with serving(Judged(), f"{scheme}://127.0.0.1:0", kind="reward") as address:
        config = {"type": scheme, "address": address, "wait_for_endpoint_s": 0.5, "connect_timeout_s": 0.2}
        router = Router(Router.Config.parse({"scorers": [config]}))
        await router.start()
    async with asyncio.timeout(10):
        rewards = await router.reward(replies(20))
    await router.close()
    assert [reward.value for reward in rewards] == [None] * 20
    assert {reward.scores[0].error_kind for reward in rewards} == {"unavailable"}
    assert "tries in" in rewards[0].reason


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_memory_stays_flat_over_many_requests_that_meet_faults(scheme):
    async with serving(lambda rollout: 1.0, f"{scheme}://127.0.0.1:0", kind="reward") as real:
        proxy = faults.Proxy(int(real.rpartition(":")[2]), faults=("reset", "garbage"), share=0.4, seed=2)
        await proxy.start()
        scorer = {"type": scheme, "address": f"{scheme}://127.0.0.1:{proxy.port}", "batch_size": 4}
        router = Router(Router.Config.parse({"scorers": [scorer]}))
        await router.start()
        sizes = []
        tracemalloc.start()
        for _ in range(4):
            for _ in range(2):
                await proxy.drop()  # new connections meet new faults
                await router.reward(replies(20))
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        await router.close()
        await proxy.stop()
    assert proxy.done["reset"] + proxy.done["garbage"] >= 3
    assert sizes[3] - sizes[1] < 64 << 10, sizes


async def test_token_goes_to_the_endpoint_and_into_no_message(monkeypatch):
    monkeypatch.setenv("REWARD_TOKEN", "tok-very-secret")
    monkeypatch.setenv("OTHER_TOKEN", "tok-other-secret")
    for scheme in ("http", "grpc"):
        where = f"{scheme}://127.0.0.1:0"
        async with serving(Judged(), where, kind="reward", token="env:REWARD_TOKEN") as address:
            rewards, _ = await rewards_of(address, replies(8), token="env:REWARD_TOKEN")
            assert_none_wrong(rewards)
            with pytest.raises(Exception, match="token") as refused:
                await rewards_of(address, replies(8), token="env:OTHER_TOKEN")
        assert "secret" not in str(refused.value).replace("OTHER_TOKEN", "")
