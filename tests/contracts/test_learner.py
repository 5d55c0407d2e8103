"""What every learner promises, checked on the torch learner for tied and untied embeddings, over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlforge.interfaces import Learner
from rlforge.learner.config import LearnerConfig
from rlforge.learner.learner import TorchLearner
from rlforge.types import Batch, Objective, Trajectory
from rlforge.weights.shared_memory import SharedMemoryChannel


def batch() -> Batch:
    rng = np.random.default_rng(0)
    trajectories: list[Trajectory] = []
    for member in range(6):
        length = 8 + int(rng.integers(1, 6))
        ids = np.concatenate([np.arange(4, 12), rng.integers(4, 40, length - 8)]).astype(np.int64)
        sampled = np.arange(length) >= 8
        trajectories.append(
            Trajectory(
                token_ids=ids,
                sampled=sampled,
                behaviour_logprobs=np.where(sampled, -3.0, 0.0).astype(np.float32),
                advantages=np.where(sampled, rng.normal(), 0.0).astype(np.float32),
                group="g",
                prompt_length=8,
                rollout=f"t@0#{member}",
            )
        )
    return Batch(trajectories=tuple(trajectories), objectives={"policy": Objective(loss="ppo_clip")})


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
async def folder(request: pytest.FixtureRequest, tiny_model: Callable[..., str]) -> str:
    return tiny_model(tied=request.param)


@pytest.fixture
async def learner(folder: str) -> AsyncIterator[Learner]:
    channel = SharedMemoryChannel(run_id="learnercontract")
    made = TorchLearner(LearnerConfig(device="cpu", lr=1e-2), model=folder, seed=0, channel=channel, total_steps=5)
    await made.start()
    yield made
    await made.close()


async def test_it_plays_the_role(learner: Learner) -> None:
    assert isinstance(learner, Learner)


async def test_logprobs_have_one_value_a_token_and_zero_first(learner: Learner) -> None:
    values = await learner.logprobs(batch())
    assert [len(row) for row in values] == [trajectory.length for trajectory in batch().trajectories]
    assert all(row[0] == 0 and max(row[1:]) < 0 for row in values)


async def test_a_step_changes_the_policy_and_reports_with_units(learner: Learner) -> None:
    before = await learner.logprobs(batch())
    metrics = await learner.step(batch())
    expected = {
        *("learner/loss", "learner/grad_norm", "learner/lr", "learner/tokens", "learner/sampled_tokens"),
        *("learner/step_s", "learner/tokens_per_s", "policy/entropy", "policy/clip_fraction"),
        *("mismatch/logprob_mean_abs", "mismatch/logprob_max_abs", "mismatch/kl_k3", "mismatch/ess"),
    }
    assert expected <= set(metrics)
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in metrics.values())
    assert metrics["learner/sampled_tokens"] == sum(int(t.sampled.sum()) for t in batch().trajectories)
    assert before != await learner.logprobs(batch())


async def test_annotate_adds_reference_logprobs_and_nothing_unasked(learner: Learner) -> None:
    assert all(t.reference_logprobs is None for t in (await learner.annotate(batch(), frozenset())).trajectories)
    annotated = await learner.annotate(batch(), frozenset({"reference_logprobs"}))
    for trajectory in annotated.trajectories:
        assert trajectory.reference_logprobs is not None
        assert trajectory.reference_logprobs.shape == (trajectory.length,)
        assert (trajectory.reference_logprobs[trajectory.sampled] < 0).all()


async def test_a_publish_offers_the_weights_a_checkpoint_holds(learner: Learner, tmp_path: Path) -> None:
    await learner.step(batch())
    manifest = await learner.publish(3)
    await learner.save(str(tmp_path), model_only=True)
    offered, saved = load_file(manifest.location), load_file(str(tmp_path / "model.safetensors"))
    assert manifest.version == 3
    assert set(offered) == set(saved)
    assert all(torch.equal(value, saved[name]) for name, value in offered.items())


async def test_restore_takes_back_what_was_saved(learner: Learner, tmp_path: Path) -> None:
    await learner.step(batch())
    await learner.save(str(tmp_path))
    saved = await learner.logprobs(batch())
    next_metrics = await learner.step(batch())
    await learner.restore(str(tmp_path))
    assert await learner.logprobs(batch()) == saved
    again = await learner.step(batch())
    assert again["learner/loss"] == next_metrics["learner/loss"]
    AutoModelForCausalLM.from_pretrained(tmp_path)


async def test_close_may_be_called_twice(learner: Learner) -> None:
    await learner.close()
    await learner.close()
