import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import torch

from rlforge.generators.transformers import TransformersGenerator
from rlforge.types import GenerateRequest, Sampling
from rlforge.weights.shared_memory import SharedMemoryChannel


@pytest.fixture
async def generator(tiny_model: Callable[..., str]) -> AsyncIterator[TransformersGenerator]:
    config = TransformersGenerator.Config(context=256, max_sequences=4)
    generator = TransformersGenerator(config, model=tiny_model(), seed=0, run_id="unit")
    await generator.start()
    yield generator
    await generator.close()


def request(seed: int, length: int = 6, new: int = 8) -> GenerateRequest:
    ids = tuple(4 + (index * 5) % 40 for index in range(length))
    return GenerateRequest(prompt_ids=ids, sampling=Sampling(max_new_tokens=new), seed=seed)


async def test_logprobs_are_those_of_a_forward_pass_over_the_whole_sequence(
    generator: TransformersGenerator, tiny_model: Callable[..., str]
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model()).eval()
    for completion in await asyncio.gather(*(generator.generate(request(seed)) for seed in range(4))):
        ids = torch.tensor([[*request(0).prompt_ids, *completion.token_ids]])
        with torch.inference_mode():
            logprobs = model(ids).logits[0].log_softmax(-1)
        expected = [float(logprobs[5 + place, token]) for place, token in enumerate(completion.token_ids)]
        assert completion.logprobs == pytest.approx(expected, abs=1e-5)


async def test_mixed_prompt_lengths_beyond_the_batch_size_all_come_back(generator: TransformersGenerator) -> None:
    requests = [request(seed, length=5 + seed % 3) for seed in range(14)]
    together = await asyncio.gather(*(generator.generate(one) for one in requests))
    assert together[9].token_ids == (await generator.generate(requests[9])).token_ids


async def test_a_load_between_two_tokens_splits_the_versions(
    generator: TransformersGenerator, tiny_model: Callable[..., str]
) -> None:
    from transformers import AutoModelForCausalLM

    channel = SharedMemoryChannel(run_id="unit-transformers")
    weights = AutoModelForCausalLM.from_pretrained(tiny_model(seed=1)).state_dict()
    manifest = channel.publish(dict(weights), 1)
    running = [asyncio.ensure_future(generator.generate(request(seed, new=200))) for seed in range(3)]
    await generator.generate(request(3, new=2))  # of the same batch: where it has two tokens, all have
    await generator.load(manifest)
    channel.close()
    versions = [completion.policy_versions for completion in await asyncio.gather(*running)]
    assert any(set(found) == {0, 1} for found in versions)
    assert all(list(found) == sorted(found) for found in versions)


async def test_closing_cancels_what_is_in_flight(generator: TransformersGenerator) -> None:
    running = asyncio.ensure_future(generator.generate(request(0, new=200)))
    for _ in range(5):  # a few turns of the loop, not a time: 200 tokens of this model may take less than one names
        await asyncio.sleep(0)
    await generator.close()
    with pytest.raises(asyncio.CancelledError):
        await running
