"""vLLM against transformers, across updates; prefix cache, bursts beyond the token budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import torch

from rlforge.errors import ActorDied, WeightSyncError
from rlforge.generators.vllm import VLLMGenerator
from rlforge.orchestrators.environment_loop import EnvironmentLoop
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.processes import mapped_segments, shared_memory_folder
from rlforge.tokens.chat_template import CHATML
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.trajectories import trajectories
from rlforge.types import Completion, GenerateRequest, Message, Reward, RolloutKey, Sampling, Task
from rlforge.weights.shared_memory import SharedMemoryChannel
from tests.exactness import Call, kept_in_prompts, learned_as_sampled
from tests.models import SPECIAL, save_checkpoint

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
PROMPT = tuple(range(4, 28))


def request(seed: int, prompt: tuple[int, ...] = PROMPT, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(prompt_ids=prompt, sampling=Sampling(**{"max_new_tokens": 16} | sampling), seed=seed)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[True, False], ids=["tied", "untied"])
async def served(
    request: pytest.FixtureRequest, tiny_model: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """A generator on a checkpoint, trainer state and all; its channel; the transformers model that gets published."""
    from transformers import AutoModelForCausalLM

    folder = await save_checkpoint(tiny_model(tied=request.param), tmp_path_factory.mktemp("checkpoint"))
    config = VLLMGenerator.Config(context=512, kv_cache_gb=0.25, prefill_tokens=512)
    generator = VLLMGenerator(config, model=folder, seed=0, run_id="test-vllm")
    channel = SharedMemoryChannel(run_id="test-vllm")
    await generator.start()
    yield generator, channel, AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    family = psutil.Process().children(recursive=True)
    segments = mapped_segments(family)
    await generator.close()
    channel.close()
    assert not list(shared_memory_folder().glob("rlforge-test-vllm-*"))
    assert not {path.name for path in shared_memory_folder().iterdir()} & segments
    left = [" ".join(process.cmdline()) for process in family if process.is_running()]
    assert [line for line in left if "resource_tracker" not in line] == []


def change(model: Any, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


@torch.inference_mode()
def reference(model: Any, completion: Completion, temperature: float) -> list[float]:
    """Logprobs of the sampled tokens by transformers."""
    ids = torch.tensor([[*PROMPT, *completion.token_ids]])
    logprobs = (model(ids).logits[0] / temperature).log_softmax(-1)
    start = len(PROMPT) - 1
    return [float(logprobs[start + place, token]) for place, token in enumerate(completion.token_ids)]


def small_bpe(folder: Path) -> Path:
    """Byte pairs over the ids of the tiny model: its special tokens, letters, and merges of the commonest pairs."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    letters = [*"abcdefghijklmnopqrstuvwxyz?\n "]
    merges = [(a, b) for a in "aeiou" for b in "nrst"][:17]
    names = [*SPECIAL, *letters, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({name: index for index, name in enumerate(names)}, merges))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[2]}))
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


async def assert_exact(generator: VLLMGenerator, model: Any) -> None:
    for temperature in (1.0, 0.7):
        requests = [request(seed, temperature=temperature) for seed in range(8)]
        for completion in await asyncio.gather(*map(generator.generate, requests)):
            assert completion.logprobs == pytest.approx(reference(model, completion, temperature), abs=1e-4)


async def test_logprobs_equal_transformers_after_every_update(served: Any) -> None:
    generator, channel, model = served
    await assert_exact(generator, model)
    for version in (1, 2):
        change(model, version)
        await generator.load(channel.publish(model.state_dict(), version))
        await assert_exact(generator, model)


async def test_greedy_takes_the_likeliest_token_and_reports_the_plain_softmax(served: Any) -> None:
    generator, _, model = served
    completion = await generator.generate(request(0, temperature=0.0))
    assert completion.logprobs == pytest.approx(reference(model, completion, 1.0), abs=1e-4)


@pytest.mark.parametrize("end_of_turn", [SPECIAL[2], SPECIAL[0]], ids=["eos", "own"])
async def test_rollouts_of_many_turns_are_learned_in_the_tokens_that_vllm_received_and_returned(
    served: Any, tmp_path: Path, end_of_turn: str
) -> None:
    generator, _, model = served
    small_bpe(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHATML.replace(SPECIAL[2], end_of_turn))
    renderer = ChatRenderer.from_folder(tmp_path)
    ends = (renderer.eos_id, *renderer.stop_ids)
    assert renderer.encode(end_of_turn)[0] in ends
    rewritten = 0
    for seed in range(6):
        calls: list[Call] = []

        async def recorded(asked: GenerateRequest, calls: list[Call] = calls) -> Completion:
            completion = await generator.generate(asked)
            calls.append((asked, completion))
            assert asked.stop_ids == renderer.stop_ids
            assert not set(completion.token_ids[:-1]) & set(ends)
            return completion

        config = EnvironmentLoop.Config(max_turns=4, on_long_reply="step")
        environments = {"t": EnvironmentConfig(address="python:tests.unit.orchestrators.worlds:Guess")}
        loop = EnvironmentLoop(config, generate=recorded, renderer=renderer, environments=environments)
        await loop.start()
        task = Task(id="t/0", messages=(Message.of("system", "guess"),), answer=7, source="t")
        rollout = await loop.run(RolloutKey(task_id=task.id), task, Sampling(max_new_tokens=12), seed)
        await loop.close()
        (whole,) = trajectories(replace(rollout, reward=Reward(value=1.0)))
        learned_as_sampled(calls, [whole])
        kept_in_prompts(calls)
        with torch.inference_mode():
            logprobs = model(torch.from_numpy(whole.token_ids)[None]).logits[0].log_softmax(-1)
        places = whole.sampled.nonzero()[0]
        theirs = logprobs[places - 1, whole.token_ids[places]].tolist()
        assert whole.behaviour_logprobs is not None
        assert whole.behaviour_logprobs[places].tolist() == pytest.approx(theirs, abs=1e-4)
        said = [completion.token_ids for _, completion in calls]
        rewritten += sum(renderer.encode(renderer.decode(ids)) != ids for ids in said)
    assert rewritten > 6, "hardly any reply was written as the tokenizer would not write it"


async def test_a_load_in_flight_splits_the_versions_and_stops_nobody(served: Any) -> None:
    generator, channel, model = served
    tasks = [asyncio.ensure_future(generator.generate(request(seed, max_new_tokens=400))) for seed in range(32)]
    await generator.generate(request(32, max_new_tokens=2))  # it came last: where it has two tokens, all have
    report = await generator.load(channel.publish(model.state_dict(), 10))
    completions = await asyncio.gather(*tasks)
    assert report.pause_s < 5
    spans = {tuple(sorted(set(completion.policy_versions))) for completion in completions}
    assert (2, 10) in spans
    assert all(list(c.policy_versions) == sorted(c.policy_versions) for c in completions)


async def test_the_prefix_cache_serves_a_version_and_never_the_next(served: Any) -> None:
    generator, channel, model = served
    prompt = tuple(4 + (index * 7) % 40 for index in range(330))

    async def hits() -> float:
        before = (await generator.metrics())["generator/prefix_hits_tokens"]
        await generator.generate(request(0, prompt, max_new_tokens=2))
        return (await generator.metrics())["generator/prefix_hits_tokens"] - before

    assert await hits() == 0
    assert await hits() > 0
    await generator.load(channel.publish(model.state_dict(), 20))
    assert await hits() == 0
    assert await hits() > 0


async def test_the_next_turn_of_a_short_conversation_finds_the_last_one_in_the_cache(served: Any) -> None:
    generator, *_ = served
    first = tuple(4 + (index * 5) % 40 for index in range(70))
    await generator.generate(request(0, first, max_new_tokens=2))
    before = (await generator.metrics())["generator/prefix_hits_tokens"]
    await generator.generate(request(0, (*first, *PROMPT), max_new_tokens=2))
    assert (await generator.metrics())["generator/prefix_hits_tokens"] - before == 64, "all but the block it ends in"


async def test_a_seeded_burst_beyond_the_token_budget_changes_nothing(served: Any) -> None:
    generator, *_ = served
    prompts = [tuple(4 + (index * 3 + k) % 40 for index in range(200)) for k in range(24)]  # 4800 tokens, budget 512
    burst = await asyncio.gather(*(generator.generate(request(k, prompt)) for k, prompt in enumerate(prompts)))
    for k in (0, 11, 23):
        assert (await generator.generate(request(k, prompts[k]))).token_ids == burst[k].token_ids


async def test_stop_strings_end_a_completion(served: Any) -> None:
    generator, *_ = served
    stop = tuple("0123456789abcdefghijklm")
    completions = await asyncio.gather(
        *(generator.generate(request(seed, stop=stop, max_new_tokens=64)) for seed in range(8))
    )
    assert any(c.finish_reason == "stop" and len(c.token_ids) < 64 for c in completions)


async def test_top_k_and_top_p_are_part_of_the_reported_distribution(served: Any) -> None:
    generator, *_ = served
    completion = await generator.generate(request(1, top_k=1))
    assert completion.logprobs == pytest.approx([0.0] * len(completion.logprobs), abs=1e-6)


async def test_a_publish_that_lacks_parameters_is_refused_and_a_whole_one_heals(served: Any) -> None:
    generator, channel, model = served
    partial = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.mlp" not in name}
    with pytest.raises(WeightSyncError, match="lack"):
        await generator.load(channel.publish(partial, 30))
    with pytest.raises(WeightSyncError, match="answers nothing"):
        await generator.generate(request(0))
    await generator.load(channel.publish(model.state_dict(), 31))
    await assert_exact(generator, model)


async def heartbeat(generator: VLLMGenerator) -> None:
    async with asyncio.timeout(10):
        while True:
            generator.check()
            await asyncio.sleep(0.01)


async def test_a_dead_engine_is_news_to_every_caller(tiny_model: Callable[..., str]) -> None:
    config = VLLMGenerator.Config(context=64, kv_cache_gb=0.25, prefill_tokens=64)
    generator = VLLMGenerator(config, model=tiny_model(), seed=0, run_id="test-dead")
    await generator.start()
    (engine,) = [child for child in psutil.Process().children() if "EngineCore" in " ".join(child.cmdline())][-1:]
    engine.kill()
    with pytest.raises(ActorDied, match="its last words"):
        await heartbeat(generator)
    channel = SharedMemoryChannel(run_id="test-dead")
    with pytest.raises(ActorDied, match="its last words"):
        await generator.load(channel.publish({"a": torch.zeros(1)}, 1))
    channel.close()
    with pytest.raises(ActorDied, match="its last words"):
        await generator.generate(request(0))
    await generator.close()
