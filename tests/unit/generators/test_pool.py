"""Replicas of one model: the least loaded is asked, counters add up, and other weights in one of them end the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import torch

from rlforge.errors import ActorDied, WeightSyncError
from rlforge.generators.pool import GeneratorPool
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.interfaces import Generator
from rlforge.types import GenerateRequest, LoadReport, Manifest, Sampling
from rlforge.weights.shared_memory import SharedMemoryChannel


class Stale(ScriptedGenerator):
    """Says that it loaded, but still has the version it had."""

    async def load(self, manifest: Manifest) -> LoadReport:
        return replace(await super().load(manifest), version=manifest.version - 1)


class Other(ScriptedGenerator):
    """Loaded the version it was told to, with bytes of its own."""

    async def load(self, manifest: Manifest) -> LoadReport:
        return replace(await super().load(manifest), checksum="0" * 64)


class Slow(ScriptedGenerator):
    """Takes its time to load."""

    async def load(self, manifest: Manifest) -> LoadReport:
        return replace(await super().load(manifest), load_s=60.0)


def replica(latency_s: float = 0.0, kind: type[ScriptedGenerator] = ScriptedGenerator) -> ScriptedGenerator:
    return kind(ScriptedGenerator.Config(latency_s=latency_s), model="", seed=0, run_id="test-pool")


def request(seed: int) -> GenerateRequest:
    return GenerateRequest(prompt_ids=(4, 5, 6), sampling=Sampling(max_new_tokens=3), seed=seed)


async def answered(*replicas: ScriptedGenerator) -> list[float]:
    """Requests that each replica has completed."""
    return [(await each.metrics())["generator/requests"] for each in replicas]


@pytest.fixture
def manifest() -> Iterator[Manifest]:
    channel = SharedMemoryChannel(run_id="test-pool")
    yield channel.publish({"weight": torch.ones(4)}, 3)
    channel.close()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[GeneratorPool, ScriptedGenerator, ScriptedGenerator]]:
    """A pool over a quick replica and one that takes a second for each completion."""
    quick, slow = replica(), replica(latency_s=1.0)
    pool = GeneratorPool([slow, quick])
    await pool.start()
    yield pool, quick, slow
    await pool.close()


async def test_a_pool_plays_the_role_of_its_replicas(
    pair: tuple[GeneratorPool, ScriptedGenerator, ScriptedGenerator],
) -> None:
    pool, quick, _ = pair
    assert isinstance(pool, Generator)
    assert await pool.generate(request(1)) == await quick.generate(request(1))


async def test_requests_of_one_moment_spread_evenly() -> None:
    replicas = [replica(latency_s=0.01) for _ in range(2)]
    pool = GeneratorPool(replicas)
    await pool.start()
    await asyncio.gather(*(pool.generate(request(seed)) for seed in range(10)))
    assert await answered(*replicas) == [5, 5]
    await pool.close()


async def test_a_request_goes_to_the_replica_with_the_fewest_under_way(
    pair: tuple[GeneratorPool, ScriptedGenerator, ScriptedGenerator],
) -> None:
    pool, quick, slow = pair
    held = asyncio.ensure_future(pool.generate(request(0)))
    await asyncio.sleep(0)
    for seed in range(1, 5):
        await pool.generate(request(seed))
    assert not held.done()
    assert await answered(slow, quick) == [0, 4]
    held.cancel()


async def test_a_request_that_was_cancelled_or_failed_no_longer_counts_as_load(
    pair: tuple[GeneratorPool, ScriptedGenerator, ScriptedGenerator],
) -> None:
    pool, quick, slow = pair
    for _ in range(2):
        given_up = asyncio.ensure_future(pool.generate(request(0)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
    await slow.close()
    for _ in range(2):  # a tie goes to the first, so the slow one is asked again
        with pytest.raises(ActorDied):
            await pool.generate(request(1))
    assert await answered(quick) == [0]


async def test_a_load_is_done_when_the_slowest_replica_has_the_weights(manifest: Manifest) -> None:
    pool = GeneratorPool([replica(), replica(kind=Slow), replica()])
    await pool.start()
    report = await pool.load(manifest)
    assert (report.version, report.checksum, report.load_s) == (3, manifest.checksum, 60.0)
    completions = await asyncio.gather(*(pool.generate(request(seed)) for seed in range(3)))
    assert {version for completion in completions for version in completion.policy_versions} == {3}
    await pool.close()


@pytest.mark.parametrize(("kind", "said"), [(Stale, "reports version 2"), (Other, f"with checksum {'0' * 64}")])
async def test_a_replica_with_other_weights_than_were_published_is_named_and_stops_the_run(
    manifest: Manifest, kind: type[ScriptedGenerator], said: str
) -> None:
    pool = GeneratorPool([replica(), replica(kind=kind)])
    await pool.start()
    with pytest.raises(WeightSyncError, match=f"version 3 .*generator 1 .*{said}"):
        await pool.load(manifest)
    await pool.close()


async def test_counters_are_those_of_all_replicas_together(manifest: Manifest) -> None:
    replicas = [replica(), replica()]
    pool = GeneratorPool(replicas)
    await pool.start()
    await pool.load(manifest)
    for one, seeds in zip(replicas, (range(2), range(5)), strict=True):
        for seed in seeds:
            await one.generate(request(seed))
    counted = await pool.metrics()
    assert counted["generator/requests"] == 7
    assert counted["generator/loads"] == 2
    await pool.close()
    with pytest.raises(ActorDied):
        await replicas[1].generate(request(0))
