import asyncio

import pytest

from rlforge.errors import GenerationError, WeightSyncError
from rlforge.generators.admission import Fence, admit
from rlforge.types import GenerateRequest, LoadReport, Manifest, Sampling


def manifest(version: int, checksum: str = "aa") -> Manifest:
    return Manifest(version=version, channel="shared_memory", location="/x", checksum=checksum)


def report(version: int, checksum: str = "aa") -> LoadReport:
    return LoadReport(version=version, checksum=checksum, pause_s=0.0, load_s=0.0)


async def load(fence: Fence, published: Manifest, read: LoadReport) -> None:
    async with fence.loading(published):
        fence.settle(published, [read])


def test_a_prompt_leaves_room_for_one_token() -> None:
    admit(GenerateRequest(prompt_ids=(1,) * 7, sampling=Sampling(), seed=0), 8)
    with pytest.raises(GenerationError, match="context is 8 tokens"):
        admit(GenerateRequest(prompt_ids=(1,) * 8, sampling=Sampling(), seed=0), 8)


def test_a_completion_has_at_least_one_token() -> None:
    with pytest.raises(GenerationError, match="max_new_tokens=0"):
        admit(GenerateRequest(prompt_ids=(1,), sampling=Sampling(max_new_tokens=0), seed=0), 8)


async def test_one_worker_with_other_weights_shuts_the_fence() -> None:
    fence = Fence()
    with pytest.raises(WeightSyncError, match="checksum"):
        async with fence.loading(manifest(1)):
            fence.settle(manifest(1), [report(1), report(1, "bb")])
    with pytest.raises(WeightSyncError, match="until a load succeeds"):
        await fence.enter()


async def test_a_load_that_raises_shuts_the_fence_and_the_next_one_opens_it() -> None:
    fence = Fence()
    with pytest.raises(RuntimeError):
        async with fence.loading(manifest(1)):
            raise RuntimeError
    with pytest.raises(WeightSyncError):
        fence.check()
    await load(fence, manifest(1), report(1))
    await fence.enter()
    assert fence.version == 1


async def test_the_same_version_may_be_loaded_again_and_an_older_may_not() -> None:
    fence = Fence()
    await load(fence, manifest(2), report(2))
    await load(fence, manifest(2), report(2))
    with pytest.raises(WeightSyncError, match="already holds version 2"):
        await load(fence, manifest(1), report(1))
    await fence.enter()


async def test_a_request_that_arrives_during_a_load_begins_after_it() -> None:
    fence = Fence()
    seen: list[int] = []

    async def arrive() -> None:
        await fence.enter()
        seen.append(fence.version)

    async with fence.loading(manifest(5)):
        arrival = asyncio.create_task(arrive())
        await asyncio.sleep(0)
        assert seen == []
        fence.settle(manifest(5), [report(5)])
    await arrival
    assert seen == [5]
