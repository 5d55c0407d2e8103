"""One contract for every registered generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from rlforge.config import build, config_class
from rlforge.errors import ActorDied, GenerationError, WeightSyncError
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.interfaces import Generator
from rlforge.registry import GENERATORS
from rlforge.types import Completion, FinishReason, GenerateRequest, Sampling
from rlforge.weights.shared_memory import SharedMemoryChannel
from tests.models import CHARACTERS, SPECIAL

PROMPT = tuple(range(4, 28))
SETTINGS: dict[str, dict[str, Any]] = {"vllm": {"kv_cache_gb": 0.1}, "scripted": {"latency_s": 0.01}}
pytestmark = pytest.mark.asyncio(loop_scope="module")


def request(seed: int = 1, prompt: tuple[int, ...] = PROMPT, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(prompt_ids=prompt, sampling=Sampling(**{"max_new_tokens": 12} | sampling), seed=seed)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=GENERATORS.names())
async def generator(request: pytest.FixtureRequest, tiny_model: Callable[..., str]) -> AsyncIterator[Generator]:
    kind = request.param
    config = config_class(GENERATORS, kind).parse({"type": kind, "context": 128, **SETTINGS.get(kind, {})})
    part = build(GENERATORS, config, model=tiny_model(), seed=0, run_id="test-contract")
    await part.start()
    yield part
    await part.close()
    await part.close()
    with pytest.raises(ActorDied, match="not running"):
        await part.generate(GenerateRequest(prompt_ids=PROMPT, sampling=Sampling(), seed=0))


@pytest.fixture(scope="module")
def channel() -> Any:
    channel = SharedMemoryChannel(run_id="test-contract")
    yield channel
    channel.close()


def weights(folder: str) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


async def test_a_generator_plays_the_role(generator: Generator) -> None:
    assert isinstance(generator, Generator)


async def test_facts_per_token_have_the_same_length(generator: Generator) -> None:
    for completion in await asyncio.gather(*(generator.generate(request(seed)) for seed in range(8))):
        length = len(completion.token_ids)
        assert 1 <= length <= 12
        assert len(completion.logprobs) == len(completion.policy_versions) == length
        assert all(logprob <= 0 for logprob in completion.logprobs)
        assert completion.finish_reason is FinishReason.STOP or length == 12


async def test_the_same_seed_gives_the_same_tokens_whoever_runs_beside_it(generator: Generator) -> None:
    alone = await generator.generate(request(7))
    crowd = await asyncio.gather(*(generator.generate(request(seed)) for seed in range(16)))
    assert crowd[7].token_ids == alone.token_ids
    assert crowd[7].logprobs == pytest.approx(alone.logprobs, abs=1e-5)


async def first_with(
    generator: Generator, wanted: Callable[[Completion], bool], **sampling: Any
) -> tuple[int, Completion]:
    """The first seed whose completion is as wanted, and that completion."""
    for seed in range(200):
        completion = await generator.generate(request(seed, **sampling))
        if wanted(completion):
            return seed, completion
    raise AssertionError("no seed gives such a completion")


def assert_cut(cut: Completion, whole: Completion, length: int) -> None:
    assert cut.token_ids == whole.token_ids[:length]
    assert cut.logprobs == pytest.approx(whole.logprobs[:length], abs=1e-5)
    assert len(cut.policy_versions) == length
    assert cut.finish_reason is FinishReason.STOP


async def test_a_stop_token_ends_the_completion_and_is_part_of_it(generator: Generator) -> None:
    seed, whole = await first_with(generator, lambda completion: len(completion.token_ids) > 6)
    stops = (whole.token_ids[4], whole.token_ids[3])
    cut = await generator.generate(replace(request(seed), stop_ids=stops))
    assert_cut(cut, whole, 1 + min(whole.token_ids.index(stop) for stop in stops))


async def test_a_stop_token_that_is_not_sampled_changes_nothing(generator: Generator) -> None:
    seed, cut = await first_with(generator, lambda c: c.finish_reason is FinishReason.LENGTH, max_new_tokens=4)
    absent = next(token for token in range(4, 12) if token not in cut.token_ids)
    again = await generator.generate(replace(request(seed, max_new_tokens=4), stop_ids=(absent,)))
    assert (again.token_ids, again.finish_reason) == (cut.token_ids, FinishReason.LENGTH)


@pytest.mark.parametrize("mark", [1, 3, None], ids=["special", "unknown", "letters"])
async def test_a_stop_string_ends_the_completion_with_the_token_that_completes_it(
    generator: Generator, mark: int | None
) -> None:
    if isinstance(generator, ScriptedGenerator):
        pytest.skip("it has no tokenizer, so its replies have no text")
    names = (*SPECIAL, *CHARACTERS)
    long = {"max_new_tokens": 60}
    if mark is None:  # two letters, neither of which may end the sequence
        seed, whole = await first_with(generator, lambda c: len(c.token_ids) > 3 and min(c.token_ids[1:3]) > 3, **long)
        pair = whole.token_ids[1:3]
        length = next(place + 2 for place in range(len(whole.token_ids)) if whole.token_ids[place : place + 2] == pair)
        stop = names[pair[0]] + names[pair[1]]
    else:
        seed, whole = await first_with(generator, lambda c: mark in c.token_ids[:-1], **long)
        length, stop = whole.token_ids.index(mark) + 1, names[mark]
    assert_cut(await generator.generate(request(seed, stop=(stop,), **long)), whole, length)


async def test_different_seeds_differ(generator: Generator) -> None:
    crowd = await asyncio.gather(*(generator.generate(request(seed)) for seed in range(16)))
    assert len({completion.token_ids for completion in crowd}) > 8


async def test_a_prompt_that_does_not_fit_is_refused_with_its_length(generator: Generator) -> None:
    with pytest.raises(GenerationError, match="128 tokens"):
        await generator.generate(request(prompt=(5,) * 128))
    with pytest.raises(GenerationError, match="0 tokens"):
        await generator.generate(request(prompt=()))


async def test_cancelling_frees_the_request(generator: Generator) -> None:
    task = asyncio.ensure_future(generator.generate(request(3, max_new_tokens=100)))
    while not (await generator.metrics())["generator/running"]:  # noqa: ASYNC110  a counter has no event
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    metrics = await generator.metrics()
    assert metrics["generator/running"] == 0
    assert metrics["generator/aborted"] >= 1
    await generator.generate(request(3))


async def test_metrics_count_what_was_done(generator: Generator) -> None:
    before = await generator.metrics()
    completion = await generator.generate(request(5))
    after = await generator.metrics()
    assert after["generator/requests"] - before["generator/requests"] == 1
    assert after["generator/tokens"] - before["generator/tokens"] == len(completion.token_ids)
    assert all(key.startswith("generator/") for key in after)
    assert after["generator/busy_s"] > before["generator/busy_s"]


async def test_tokens_carry_the_version_that_was_loaded(
    generator: Generator, channel: SharedMemoryChannel, tiny_model: Callable[..., str]
) -> None:
    manifest = channel.publish(weights(tiny_model(seed=1)), 3)
    report = await generator.load(manifest)
    assert (report.version, report.checksum) == (3, manifest.checksum)
    assert set((await generator.generate(request())).policy_versions) == {3}


async def test_an_older_version_is_refused_and_the_newer_one_goes_on(
    generator: Generator, channel: SharedMemoryChannel, tiny_model: Callable[..., str]
) -> None:
    await generator.load(channel.publish(weights(tiny_model(seed=1)), 5))
    with pytest.raises(WeightSyncError, match="already holds version 5"):
        await generator.load(channel.publish(weights(tiny_model(seed=1)), 4))
    assert set((await generator.generate(request())).policy_versions) == {5}


async def test_after_a_checksum_mismatch_nothing_is_answered_until_a_load_succeeds(
    generator: Generator, channel: SharedMemoryChannel, tiny_model: Callable[..., str]
) -> None:
    manifest = channel.publish(weights(tiny_model(seed=2)), 6)
    with pytest.raises(WeightSyncError, match="was read"):
        await generator.load(replace(manifest, checksum="0" * 64))
    with pytest.raises(WeightSyncError, match="answers nothing until a load succeeds"):
        await generator.generate(request())
    await generator.load(manifest)
    assert set((await generator.generate(request())).policy_versions) == {6}


async def test_weights_that_are_gone_are_a_sync_error(
    generator: Generator, channel: SharedMemoryChannel, tiny_model: Callable[..., str]
) -> None:
    manifest = channel.publish(weights(tiny_model(seed=2)), 7)
    with pytest.raises(WeightSyncError, match="publish again"):
        await generator.load(replace(manifest, location=manifest.location + "-gone"))
    await generator.load(manifest)
