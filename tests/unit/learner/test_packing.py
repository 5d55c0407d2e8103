from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlforge.learner.config import LearnerConfig
from rlforge.learner.learner import TorchLearner
from rlforge.learner.loss import StepLoss
from rlforge.learner.packing import Tokens, pack
from rlforge.types import Batch, Objective, Trajectory
from tests.unit.learner.batches import groups, trajectory

POLICY = {"policy": Objective(loss="ppo_clip")}


def plain_logprobs(model: torch.nn.Module, one: Trajectory) -> torch.Tensor:
    """Logprob of every token but the first by an ordinary forward pass of one sequence."""
    ids = torch.from_numpy(one.token_ids)
    logits = model(input_ids=ids[None]).logits[0, :-1] / one.temperature
    return torch.log_softmax(logits.float(), -1).gather(1, ids[1:, None])[:, 0]


def mixed_batch() -> list[Trajectory]:
    """Shared prompts (short; too long for a common block), lone trajectories, temperatures, one-token completions."""
    long = [trajectory(70, 40 + 9 * m, 900 + m, group="long", prompt_seed=9) for m in range(3)]
    huge = [trajectory(150, 20 + m, 950 + m, group="huge", prompt_seed=5) for m in range(2)]
    lone = [trajectory(2 + 7 * i, 3 + 5 * i, 700 + i, temperature=0.7) for i in range(6)]
    single = [trajectory(6, 1, 600, group="one"), trajectory(1, 12, 601)]
    return [*groups(), *long, *lone, *single, *huge]


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("micro_batch_tokens", [60, 100_000])
async def test_packed_and_shared_logprobs_equal_an_ordinary_forward_pass(
    make_model: Callable[..., str], architecture: str, tied: bool, micro_batch_tokens: int
) -> None:
    folder = make_model(tied=tied, architecture=architecture)
    config = LearnerConfig(device="cpu", micro_batch_tokens=micro_batch_tokens, logprob_chunk_tokens=37)
    learner = TorchLearner(config, model=folder, seed=0, channel=None, total_steps=1)
    await learner.start()
    batch = mixed_batch()
    got = await learner.logprobs(Batch(trajectories=tuple(batch), objectives=POLICY))
    await learner.close()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for one, values in zip(batch, got, strict=True):
            assert values[0] == 0
            np.testing.assert_allclose(values[1:], plain_logprobs(plain, one).numpy(), atol=2e-5)


@pytest.mark.parametrize("tied", [True, False])
async def test_gradients_of_shared_prompts_equal_those_of_separate_sequences(
    make_model: Callable[..., str], tied: bool
) -> None:
    folder = make_model(tied=tied)
    batch = Batch(trajectories=tuple(mixed_batch()), objectives={"policy": Objective(loss="cross_entropy")})
    learner = TorchLearner(LearnerConfig(device="cpu"), model=folder, seed=0, channel=None, total_steps=1)
    await learner.start()
    got = learner_gradients(learner, batch)
    await learner.close()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    count = sum(int(one.sampled.sum()) for one in batch.trajectories)
    loss = sum(
        -(plain_logprobs(plain, one) * torch.from_numpy(one.sampled[1:])).sum() / count for one in batch.trajectories
    )
    loss.backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(got[name], parameter.grad, atol=2e-5, rtol=2e-4)


def learner_gradients(learner: TorchLearner, batch: Batch) -> dict[str, torch.Tensor]:
    """Gradients of a batch without the update."""
    tokens = Tokens(batch.trajectories)
    loss = StepLoss(batch, tokens, torch.device("cpu"))
    learner._accumulate(batch, loss, pack(tokens, learner._config.micro_batch_tokens))
    return {name: p.grad.clone() for name, p in learner._model("policy").named_parameters() if p.grad is not None}


def test_a_group_encodes_its_prompt_once() -> None:
    members = tuple(trajectory(20, 5, m, group="g", prompt_seed=1) for m in range(8))
    (only,) = pack(Tokens(members), 10_000)
    assert only.input_ids.shape[1] == 20 + 8 * 4  # the last token of a completion predicts nothing


def test_members_whose_prompts_differ_do_not_share() -> None:
    members = tuple(trajectory(20, 5, m, group="g") for m in range(3))
    (only,) = pack(Tokens(members), 10_000)
    assert only.input_ids.shape[1] == 3 * 24


def test_groups_with_equal_prompts_stay_apart() -> None:
    members = tuple(trajectory(20, 5, m, group=f"g{m}", prompt_seed=1) for m in range(3))
    (only,) = pack(Tokens(members), 10_000)
    assert only.input_ids.shape[1] == 3 * 24


@pytest.mark.parametrize("budget", [30, 64, 500])
def test_every_wanted_token_is_in_exactly_one_pack_within_the_budget(budget: int) -> None:
    tokens = Tokens(tuple(groups()))
    packs = pack(tokens, budget)
    assert sorted(np.concatenate([part.wanted for part in packs]).tolist()) == list(range(tokens.wanted.shape[0]))
    assert all(part.input_ids.shape[1] <= budget for part in packs)


def test_a_batch_without_sampled_tokens_has_no_packs() -> None:
    silent = replace(trajectory(5, 5, 1), sampled=np.zeros(10, dtype=np.bool_))
    assert pack(Tokens((silent,)), 100) == []
    assert pack(Tokens(()), 100) == []
