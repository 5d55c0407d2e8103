"""Reward functions behind an address: what they may be, and what becomes of those that fail, hang or ramble."""

import asyncio
import sys
import threading
import time
from functools import partial

import grpc
import pytest

from rlforge.errors import (
    ConfigError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointRefused,
    EndpointUnavailable,
)
from rlforge.hosting import grpc_server
from rlforge.hosting.scorers import THREADS, as_reward_endpoint
from rlforge.hosting.serve import kind_of, serving
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_reward
from rlforge.transports.grpc_sending import send
from rlforge.types import Score, ScorerSpec
from rlforge.wire.pb import reward_pb2, types_pb2
from rlforge.wire.rollouts import encode_rollout
from tests.rollouts import rollout
from tests.worlds import Clockwork, until, until_raises


@pytest.fixture(params=["grpc", "http"])
def scheme(request):
    return request.param


async def judged(thing, scheme, *replies, timeout_s=5.0, **settings):
    async with serving(thing, f"{scheme}://127.0.0.1:0", **settings) as address:
        endpoint = connect_reward(EndpointConfig(address=address))
        try:
            items = {str(place): rollout(reply) for place, reply in enumerate(replies)}
            scores = await endpoint.score(items, request_id="1", timeout_s=timeout_s)
            return [scores[item] for item in items]
        finally:
            await endpoint.close()


async def gentle(rollout):
    await asyncio.sleep(0.01)
    return float(rollout.text == rollout.task.answer)


def together(rollouts):
    return [len(rollouts) + index for index in range(len(rollouts))]


async def together_later(rollouts):
    return together(rollouts)


class Callable:
    def __call__(self, rollout):
        return 2.0


class AsyncCallable:
    async def __call__(self, rollout):
        return 3.0


@pytest.mark.parametrize(
    ("thing", "batch", "values"),
    [
        (lambda rollout: rollout.text == "46", False, [1, 0]),
        (gentle, False, [1, 0]),
        (together, True, [2, 3]),
        (together_later, True, [2, 3]),
        (Callable(), False, [2, 2]),
        (AsyncCallable(), False, [3, 3]),
    ],
)
async def test_a_reward_is_any_function_of_a_rollout_or_of_a_list_of_them(scheme, thing, batch, values):
    scores = await judged(thing, scheme, "46", "47", batch=batch)
    assert [score.value for score in scores] == values


async def test_a_list_of_the_wrong_length_scores_nothing(scheme):
    scores = await judged(lambda rollouts: [1.0], scheme, "46", "47", batch=True)
    assert [score.error_kind for score in scores] == ["malformed", "malformed"]


async def test_a_batch_that_raises_scores_nothing_and_says_why(scheme):
    def faint(rollouts):
        raise RuntimeError("the judge has fainted")

    scores = await judged(faint, scheme, "46", "47", batch=True)
    assert [score.error_kind for score in scores] == ["exception", "exception"]
    assert "the judge has fainted" in scores[0].reason


def leaves(rollout):
    if rollout.text == "exit":
        sys.exit(3)
    if rollout.text == "stop":
        return float(next(x for x in [] if x))
    if rollout.text == "cancel":
        raise asyncio.CancelledError
    if rollout.text == "interrupt":
        raise KeyboardInterrupt
    return 10**400 if rollout.text == "huge" else 1.0


async def leaves_later(rollout):
    return leaves(rollout)


def leave_together(rollouts):
    return [leaves(rollout) for rollout in rollouts]


@pytest.mark.parametrize("thing", [leaves, leaves_later])
async def test_a_call_that_ends_the_process_or_cannot_be_awaited_costs_its_own_score_alone(scheme, thing):
    replies = ["exit", "stop", "46", "huge", "cancel"] + ["interrupt"] * (thing is leaves)
    began = time.monotonic()
    scores = await judged(thing, scheme, *replies, timeout_s=60)
    assert time.monotonic() - began < 30
    kinds = ["exception", "exception", None, "malformed", "exception"] + ["exception"] * (thing is leaves)
    assert [score.error_kind for score in scores] == kinds
    assert "SystemExit: 3" in scores[0].reason
    assert "Stop" in scores[1].reason
    [batch] = await judged(leave_together, scheme, "exit", batch=True)
    assert "SystemExit: 3" in batch.reason


async def test_calls_that_hang_leave_room_for_others():
    gate = threading.Event()

    def hangs(rollout):
        return gate.wait() if rollout.text == "hang" else 1.0

    endpoint = as_reward_endpoint(hangs)
    try:
        for _ in range(2):
            items = {str(number): rollout("hang") for number in range(THREADS)}
            scores = await endpoint.score(items, request_id="1", timeout_s=0.2)
            assert {score.error_kind for score in scores.values()} == {"timeout"}
        scores = await endpoint.score({"1": rollout("46")}, request_id="2", timeout_s=5)
        assert scores["1"].value == 1.0
    finally:
        gate.set()
        await endpoint.close()


async def test_a_slow_plain_function_holds_nobody_else(scheme):
    all_at_once = threading.Barrier(16)

    def slow(rollout):
        all_at_once.wait(20)  # one after another they never come to an end
        return 1.0

    scores = await judged(slow, scheme, *["46"] * 16, timeout_s=30)
    assert all(score.scored for score in scores)


async def test_what_is_not_done_in_time_is_unscored_and_the_rest_keeps_its_scores(scheme):
    async def slow(rollout):
        await asyncio.sleep(30 if rollout.text == "slow" else 0)
        return 1.0

    quick, late = await judged(slow, scheme, "46", "slow", timeout_s=2)
    assert quick.value == 1.0
    assert (late.value, late.error_kind, late.retryable) == (None, "timeout", True)


class Silent:
    """Plays the role, badly; the first request waits for the gate, where there is one."""

    def __init__(self, *, spec=None, seconds=0.0, gate=None):
        self.spec = spec or ScorerSpec(name="silent")
        self.seconds = seconds
        self.gate = gate
        self.asked = 0

    async def describe(self):
        return self.spec

    async def score(self, items, *, request_id, timeout_s):
        self.asked += 1
        if self.gate and self.asked == 1:
            await self.gate.wait()
        await asyncio.sleep(self.seconds)
        return {"unasked": Score(scorer="silent", value=1.0)}

    async def close(self):
        pass


async def test_an_item_without_a_score_is_unscored(scheme):
    [score] = await judged(Silent(), scheme, "46")
    assert (score.value, score.error_kind) == (None, "malformed")


async def test_an_endpoint_that_hangs_ends_in_a_deadline(scheme):
    with pytest.raises(DeadlineExceeded):
        await judged(Silent(seconds=30), scheme, "46", timeout_s=0.3)


async def test_more_items_than_the_scorer_takes_are_refused(scheme):
    silent = Silent(spec=ScorerSpec(name="silent", max_batch=2))
    with pytest.raises(EndpointRefused, match="3 items in one request; scorer 'silent' takes 2"):
        await judged(silent, scheme, "1", "2", "3")
    assert silent.asked == 0


async def test_more_requests_than_it_takes_at_once_are_told_to_come_back(scheme):
    silent = Silent(gate=asyncio.Event())
    async with serving(silent, f"{scheme}://127.0.0.1:0", concurrency=1) as address:
        endpoint = connect_reward(EndpointConfig(address=address))
        assert (await endpoint.describe()).max_concurrency == 1
        first = asyncio.create_task(endpoint.score({"1": rollout()}, request_id="1", timeout_s=20))
        await until(lambda: silent.asked == 1)
        with pytest.raises(EndpointBusy) as busy:
            await endpoint.score({"2": rollout()}, request_id="2", timeout_s=5)
        assert busy.value.retry_after_s == 0.25
        silent.gate.set()
        await first
        await endpoint.close()


async def test_draining_lets_requests_end_and_takes_no_new_one(scheme):
    silent = Silent(gate=asyncio.Event())
    hosted = serving(silent, f"{scheme}://127.0.0.1:0", drain_s=20)
    endpoint = connect_reward(EndpointConfig(address=await hosted.__aenter__()))
    under_way = asyncio.create_task(endpoint.score({"1": rollout()}, request_id="1", timeout_s=20))
    await until(lambda: silent.asked == 1)
    stopping = asyncio.create_task(hosted.__aexit__(None, None, None))
    another = partial(endpoint.score, {"2": rollout()}, request_id="2", timeout_s=5)
    assert "draining" in str(await until_raises(EndpointUnavailable, another))
    silent.gate.set()
    assert (await under_way)["1"].error_kind == "malformed"
    await stopping
    await endpoint.close()


async def streamed(thing, *items, timeout_s=5.0, **settings):
    """Scores in the order in which they come back for items, or bytes, sent in one stream."""
    async with (
        serving(thing, "grpc://127.0.0.1:0", **settings) as address,
        grpc.aio.insecure_channel(address.removeprefix("grpc://")) as channel,
    ):
        stub = channel.stream_stream("/rlforge.v1.Reward/ScoreStream", None, types_pb2.Score.FromString)
        call = stub(timeout=timeout_s)
        for item in items:
            if not await send(call, item if isinstance(item, bytes) else item.SerializeToString()):
                break
        await call.done_writing()
        return [score async for score in call]


def item(reply, *, id=""):
    return reward_pb2.ScoreItem(id=id or reply, rollout=encode_rollout(rollout(reply)))


async def test_items_may_come_as_a_stream_and_scores_come_as_they_are_ready():
    done = {number: asyncio.Event() for number in (1, 2, 3)}

    async def staggered(rollout):
        number = int(rollout.text)
        if number > 1:
            await done[number - 1].wait()
        done[number].set()
        return float(number)

    scores = await streamed(staggered, item("3"), item("1"), item("2"))
    assert [(score.id, score.scored.value) for score in scores] == [(str(n), float(n)) for n in (1, 2, 3)]


async def test_a_stream_may_hold_more_items_than_are_judged_at_once():
    under_way = []
    busiest = 0

    async def counted(rollout):
        nonlocal busiest
        under_way.append(rollout)
        busiest = max(busiest, len(under_way))
        await asyncio.sleep(0.02)
        under_way.remove(rollout)
        return float(rollout.text)

    scores = await streamed(counted, *(item(str(number)) for number in range(16)), concurrency=3)
    assert sorted(score.scored.value for score in scores) == list(range(16))
    assert busiest == 3


class Failing(Silent):
    """Raises what it is given."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    async def score(self, items, *, request_id, timeout_s):
        raise self.fault


async def test_an_endpoint_that_ends_the_process_fails_its_request_alone(scheme):
    with pytest.raises(EndpointBroken, match="ended its process"):
        await judged(Failing(SystemExit(3)), scheme, "46")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (EndpointBusy("all judges are out", 0.5), "RESOURCE_EXHAUSTED"),
        (EndpointUnavailable("going home"), "UNAVAILABLE"),
        (DeadlineExceeded("too late"), "DEADLINE_EXCEEDED"),
        (EndpointRefused("not for you"), "INVALID_ARGUMENT"),
        (ValueError("a gear has broken"), "ABORTED"),
    ],
)
async def test_a_fault_in_a_stream_has_the_status_and_advice_it_has_elsewhere(fault, status):
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await streamed(Failing(fault), item("1"), item("2"))
    assert ended.value.code().name == status
    assert str(fault) in ended.value.details()
    advice = dict(ended.value.trailing_metadata()).get("retry-after-ms")
    assert advice == ("500" if status == "RESOURCE_EXHAUSTED" else None)


@pytest.mark.parametrize(
    "malformed",
    [b"\xff\xff\xff", reward_pb2.ScoreItem(id="1", rollout={"turns": [{"message": {"role": "bystander"}}]})],
    ids=["garbage", "odd role"],
)
async def test_a_malformed_item_in_a_stream_is_refused(malformed):
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await streamed(gentle, malformed)
    assert ended.value.code().name == "INVALID_ARGUMENT"


async def test_a_stream_without_a_deadline_has_the_servers(monkeypatch):
    monkeypatch.setattr(grpc_server, "SCORE_TIMEOUT_S", 0.3)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await streamed(Silent(seconds=30), item("1"), item("2"), concurrency=1, timeout_s=None)
    assert ended.value.code().name == "DEADLINE_EXCEEDED"
    assert "scorer 'silent'" in ended.value.details()


def test_a_function_that_takes_a_rollout_judges_and_one_that_takes_nothing_makes_worlds():
    assert kind_of(lambda rollout: 1.0) == "reward"
    assert kind_of(gentle) == "reward"
    assert kind_of(Callable()) == "reward"
    assert kind_of(Silent()) == "reward"
    assert kind_of(lambda: Clockwork()) == "environment"
    assert kind_of(Clockwork) == "environment"
    assert kind_of(Clockwork()) == "environment"


@pytest.mark.parametrize("thing", [Clockwork, 7, "reward"])
def test_what_is_no_reward_is_refused(thing):
    with pytest.raises(ConfigError, match="is no reward"):
        as_reward_endpoint(thing)


async def test_a_reward_in_processes_must_stand_at_the_top_of_a_file(scheme):
    with pytest.raises(ConfigError, match="cannot run in processes"):
        await judged(lambda rollout: 1.0, scheme, "46", processes=2)


async def test_a_reward_in_processes_scores_like_one_without(tmp_path, scheme):
    (tmp_path / "in_processes.py").write_text("import os\n\ndef reward(rollout):\n    return float(os.getpid())\n")
    endpoint = connect_reward(EndpointConfig(address=f"python:{tmp_path}/in_processes.py:reward"))
    scores = await judged(endpoint._function, scheme, *["46"] * 40, processes=2)
    assert all(score.scored for score in scores)
    assert {score.value for score in scores}.isdisjoint({float(__import__("os").getpid())})
