"""The benches `environment` and `score` compare like with like."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import psutil
import pytest

from rlforge.bench.nothing import serving_nothing
from rlforge.bench.score import bare_scores, config, draw_rollouts, routed
from rlforge.bench.worlds import REPLY, Player, bare_world, played, task
from rlforge.rewards.router import Router
from rlforge.types import RolloutKey, Sampling, StopReason


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_nothing() as where:
        yield where


def test_do_nothing_server_ends_with_its_bench() -> None:
    before = set(psutil.Process().children())
    with serving_nothing():
        (server,) = set(psutil.Process().children()) - before
    assert not server.is_running()


async def test_both_sides_play_the_same_turns(address: str, tmp_path: Path) -> None:
    async def think() -> None:
        await asyncio.sleep(0)

    async with grpc.aio.insecure_channel(address) as channel:
        assert await bare_world(channel, 3, 0.0, think) == 3
    loop = await Player(address, str(tmp_path)).loop()
    try:
        assert await played(loop, 4, 3, 0.0) == 12
        rollout = await loop.run(RolloutKey(task_id="room"), task(3, 0.01), Sampling(max_new_tokens=64), seed=0)
    finally:
        await loop.close()
    assert [turn.message.text for turn in rollout.turns] == [REPLY] * 3
    assert rollout.stop_reason == StopReason.COMPLETED
    assert rollout.timings["world_s"] >= 0.03


async def test_both_sides_score_the_same_rollouts(address: str) -> None:
    rollouts = draw_rollouts()[:80]
    async with grpc.aio.insecure_channel(address) as channel:
        assert await bare_scores(channel, rollouts) == [1.0] * 80
    router = Router(config(address))
    await router.start()
    try:
        assert await routed(router, rollouts, 80) == await routed(router, rollouts, 1) == [1.0] * 80
    finally:
        await router.close()
