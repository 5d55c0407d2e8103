import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from rlforge.errors import ConfigError, LearnerError, RunError
from rlforge.learner import model as learner_model
from rlforge.learner.checkpoint import read_state
from rlforge.learner.config import LearnerConfig, ScheduleConfig
from rlforge.learner.learner import Floats, TorchLearner
from rlforge.learner.loss import StepLoss
from rlforge.learner.packing import Tokens, pack
from rlforge.types import Batch, KLPenalty, Objective, Trajectory
from tests.unit.learner.batches import groups, trajectory

MIXED = {
    "policy": Objective(loss="ppo_clip", reduction="per_prompt_token_mean", coefficient=0.7),
    "replay": Objective(loss="cross_entropy", reduction="sequence_mean_token_mean", coefficient=0.3),
}


def mixed_batch(number: int = 0) -> Batch:
    replayed = [
        replace(
            trajectory(4 + i, 5 + 3 * i, 50 + i + number), behaviour_logprobs=None, advantages=None, objective="replay"
        )
        for i in range(4)
    ]
    credited = [trajectory(5, 2 + i % 4, 80 + 7 * number + i, group=f"n{i // 2}") for i in range(4)]
    return Batch(trajectories=(*groups(), *replayed, *credited), objectives=MIXED)


async def started(model: str, config: LearnerConfig | None = None, total_steps: int = 10) -> TorchLearner:
    learner = TorchLearner(
        config or LearnerConfig(device="cpu", lr=1e-3), model=model, seed=0, channel=None, total_steps=total_steps
    )
    await learner.start()
    return learner


def weights(learner: TorchLearner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner._model("policy").named_parameters()}


def deterministic(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if not key.endswith(("_s", "_per_s"))}


async def test_the_gradient_is_the_same_for_any_micro_batch_split(model: str) -> None:
    found: list[tuple[dict[str, torch.Tensor], dict[str, float]]] = []
    for budget in (25, 90, 100_000):
        learner = await started(model, LearnerConfig(device="cpu", micro_batch_tokens=budget))
        tokens = Tokens(mixed_batch().trajectories)
        loss = StepLoss(mixed_batch(), tokens, torch.device("cpu"))
        learner._accumulate(mixed_batch(), loss, pack(tokens, budget))
        grads = {n: p.grad.clone() for n, p in learner._model("policy").named_parameters() if p.grad is not None}
        found.append((grads, loss.metrics()))
        await learner.close()
    for grads, metrics in found[:-1]:
        assert metrics == pytest.approx(found[-1][1], rel=1e-4)
        for name, gradient in grads.items():
            torch.testing.assert_close(gradient, found[-1][0][name], atol=1e-6, rtol=1e-3)


async def test_two_objectives_add_up_each_with_a_denominator_of_its_own(model: str) -> None:
    learner = await started(model)
    whole = await _loss(learner, mixed_batch())
    parts = 0.0
    for name in MIXED:
        chosen = tuple(t for t in mixed_batch().trajectories if t.objective == name)
        parts += await _loss(learner, Batch(trajectories=chosen, objectives=MIXED))
    await learner.close()
    assert whole == pytest.approx(parts, rel=1e-5)


async def _loss(learner: TorchLearner, batch: Batch) -> float:
    tokens = Tokens(batch.trajectories)
    loss = StepLoss(batch, tokens, torch.device("cpu"))
    learner._accumulate(batch, loss, pack(tokens, 10_000))
    return loss.metrics()["learner/loss"]


async def test_two_learners_under_a_seed_are_byte_identical(model: str) -> None:
    first, second = await started(model), await started(model)
    for number in range(3):
        one, other = await first.step(mixed_batch(number)), await second.step(mixed_batch(number))
        assert deterministic(one) == deterministic(other)
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())
    await first.close()
    await second.close()


@pytest.mark.parametrize("tied", [True, False])
async def test_a_restored_learner_goes_on_bit_for_bit(
    make_model: Callable[..., str], tmp_path: Path, tied: bool
) -> None:
    folder = make_model(tied=tied)
    schedule = ScheduleConfig(warmup_steps=2, anneal="cosine", anneal_steps=3, min_lr=1e-5)
    config = LearnerConfig(device="cpu", lr=1e-3, weight_decay=0.1, schedule=schedule)
    straight = await started(folder, config, 6)
    expected = [deterministic(await straight.step(mixed_batch(n))) for n in range(6)]
    broken = await started(folder, config, 6)
    got = [deterministic(await broken.step(mixed_batch(n))) for n in range(3)]
    await broken.save(str(tmp_path))
    await broken.close()
    resumed = await started(folder, config, 6)
    await resumed.restore(str(tmp_path))
    got += [deterministic(await resumed.step(mixed_batch(n))) for n in range(3, 6)]
    assert got == expected
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(straight).items())
    await straight.close()
    await resumed.close()


async def test_a_checkpoint_loads_unmodified_in_transformers(model: str, tmp_path: Path) -> None:
    learner = await started(model)
    await learner.step(mixed_batch())
    await learner.save(str(tmp_path))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]  # vLLM loads all of them
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert all(torch.equal(value, weights(learner)[name]) for name, value in loaded.named_parameters())
    assert loaded.generation_config.eos_token_id == AutoTokenizer.from_pretrained(tmp_path).eos_token_id
    await learner.close()


async def test_the_tensors_of_a_checkpoint_carry_a_schema_which_older_ones_lack_and_newer_ones_are_refused_by(
    model: str, tmp_path: Path
) -> None:
    learner = await started(model)
    await learner.step(mixed_batch())
    await learner.save(str(tmp_path))
    tensors, moments = tmp_path / "trainer_state.tensors", load_file(tmp_path / "trainer_state.tensors")
    with safe_open(tensors, framework="pt") as file:
        assert file.metadata() == {"schema": "1"}
    save_file(moments, tensors)
    await learner.restore(str(tmp_path))
    save_file(moments, tensors, metadata={"schema": "2"})
    with pytest.raises(RunError, match=r"trainer_state\.tensors' has schema 2; this version of rlforge reads 1"):
        await learner.restore(str(tmp_path))
    await learner.close()


async def test_a_model_alone_is_no_checkpoint_to_resume(model: str, tmp_path: Path) -> None:
    learner = await started(model)
    await learner.save(str(tmp_path), model_only=True)
    assert not list(tmp_path.glob("trainer_state*"))
    with pytest.raises(RunError, match="not a checkpoint to resume"):
        await learner.restore(str(tmp_path))
    await learner.close()


async def test_a_loss_that_is_not_finite_names_the_rollout_and_leaves_the_weights(model: str) -> None:
    learner = await started(model)
    await learner.step(mixed_batch())
    before = weights(learner)
    batch = mixed_batch()
    bad = replace(batch.trajectories[7], advantages=np.full(batch.trajectories[7].length, np.nan, np.float32))
    poisoned = replace(batch, trajectories=(*batch.trajectories[:7], bad, *batch.trajectories[8:]))
    with pytest.raises(LearnerError, match=rf"step 1: .*not finite on rollout '{bad.rollout}'; the weights are unch"):
        await learner.step(poisoned)
    assert all(torch.equal(value, weights(learner)[name]) for name, value in before.items())
    assert math.isfinite((await learner.step(batch))["learner/loss"])
    await learner.close()


async def test_a_gradient_that_is_not_finite_names_the_rollout(model: str) -> None:
    learner = await started(model)
    batch = mixed_batch()
    bad = replace(batch.trajectories[3], advantages=np.full(batch.trajectories[3].length, 3e38, np.float32))
    poisoned = replace(batch, trajectories=(*batch.trajectories[:3], bad, *batch.trajectories[4:]))
    with pytest.raises(LearnerError, match=bad.rollout):
        await learner.step(poisoned)
    await learner.close()


async def test_an_empty_batch_has_loss_and_gradient_zero(model: str) -> None:
    learner = await started(model)
    before = weights(learner)
    silent = replace(trajectory(5, 5, 1), sampled=np.zeros(10, dtype=np.bool_))
    metrics = await learner.step(Batch(trajectories=(silent,), objectives=MIXED))
    assert metrics["learner/grad_norm"] == 0
    assert metrics["learner/sampled_tokens"] == 0
    assert all(torch.equal(value, weights(learner)[name]) for name, value in before.items())
    await learner.close()


async def test_reference_logprobs_stay_those_of_the_starting_model(model: str) -> None:
    learner = await started(model)
    batch = mixed_batch()
    start = await learner.logprobs(batch)
    await learner.step(batch)
    annotated = await learner.annotate(batch, frozenset({"reference_logprobs"}))
    for one, values in zip(annotated.trajectories, start, strict=True):
        assert one.reference_logprobs is not None
        np.testing.assert_allclose(one.reference_logprobs[one.sampled], np.array(values)[one.sampled], atol=1e-5)
    await learner.close()


async def test_a_kl_term_needs_the_reference_and_grows_as_the_policy_leaves_it(model: str) -> None:
    objective = Objective(loss="ppo_clip", kl=KLPenalty(kind="k2", coefficient=0.5))
    batch = Batch(trajectories=tuple(groups()), objectives={"policy": objective})
    learner = await started(model)
    with pytest.raises(LearnerError, match="reference logprobs"):
        await learner.step(batch)
    annotated = await learner.annotate(batch, frozenset({"reference_logprobs"}))
    first = await learner.step(annotated)
    assert first["policy/kl_reference"] == pytest.approx(0, abs=1e-8)
    assert (await learner.step(annotated))["policy/kl_reference"] > 0
    await learner.close()


@pytest.mark.parametrize("coefficient", [0.5, 1.0])
async def test_a_kl_term_adds_its_coefficient_times_the_estimate_to_the_loss_and_its_slope_to_the_gradient(
    model: str, coefficient: float
) -> None:
    """On tokens of its own making a policy's credit A has the gradient of -A log π; that of k2 = d²/2 is d's."""
    learner = await started(model)
    own = await learner.logprobs(Batch(trajectories=tuple(groups()), objectives=MIXED))
    draw = np.random.default_rng(1)
    members: list[Trajectory] = []
    distances: list[Floats] = []
    for one, values in zip(groups(), own, strict=True):
        logprobs = np.array(values, dtype=np.float32)
        distance = np.where(one.sampled, draw.normal(0.5, 0.3, one.length), 0).astype(np.float32)
        told = {"behaviour_logprobs": logprobs, "reference_logprobs": logprobs - distance}
        members.append(replace(one, advantages=np.zeros_like(distance), **told))
        distances.append(distance)
    restrained = Objective(loss="ppo_clip", kl=KLPenalty(kind="k2", coefficient=coefficient))
    loss, gradient = await _loss_and_gradient(learner, members, restrained)
    tokens = np.concatenate([d[one.sampled] for d, one in zip(distances, members, strict=True)])
    assert loss == pytest.approx(coefficient * float((tokens**2 / 2).mean()), rel=1e-4)
    credited = [replace(one, advantages=-coefficient * d) for one, d in zip(members, distances, strict=True)]
    _, expected = await _loss_and_gradient(learner, credited, Objective(loss="ppo_clip"))
    assert any(bool(slope.abs().max() > 1e-3) for slope in expected.values())
    for name, slope in gradient.items():
        torch.testing.assert_close(slope, expected[name], atol=1e-6, rtol=1e-3)
    _, unrestrained = await _loss_and_gradient(learner, members, Objective(loss="ppo_clip"))
    assert all(not slope.any() for slope in unrestrained.values())
    await learner.close()


async def _loss_and_gradient(
    learner: TorchLearner, trajectories: Sequence[Trajectory], objective: Objective
) -> tuple[float, dict[str, torch.Tensor]]:
    batch = Batch(trajectories=tuple(trajectories), objectives={"policy": objective})
    learner._optimizer.zero_grad(set_to_none=True)
    loss = await _loss(learner, batch)
    named = learner._model("policy").named_parameters()
    return loss, {name: p.grad.clone() for name, p in named if p.grad is not None}


async def test_own_logprobs_as_behaviour_show_no_mismatch(model: str) -> None:
    learner = await started(model)
    batch = Batch(trajectories=tuple(groups()), objectives=MIXED)
    own = await learner.logprobs(batch)
    pairs = zip(batch.trajectories, own, strict=True)
    exact = tuple(replace(t, behaviour_logprobs=np.array(values, dtype=np.float32)) for t, values in pairs)
    metrics = await learner.step(replace(batch, trajectories=exact))
    assert metrics["mismatch/logprob_max_abs"] < 1e-5
    assert metrics["mismatch/ess"] == pytest.approx(1)
    assert metrics["mismatch/kl_k3"] == pytest.approx(0, abs=1e-9)
    assert metrics["policy/clip_fraction"] == 0
    await learner.close()


async def test_the_event_loop_stays_responsive_during_a_step(model: str) -> None:
    learner = await started(model)
    ticks = 0
    step = asyncio.ensure_future(learner.step(Batch(trajectories=tuple(groups(20, 8)), objectives=MIXED)))
    while not step.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 3
    await learner.close()


async def test_wrong_options_and_unknown_names_are_said(model: str) -> None:
    learner = await started(model)
    wrong = Batch(trajectories=tuple(groups()), objectives={"policy": Objective(loss="ppo_clip", options={"clip": 1})})
    with pytest.raises(ConfigError, match="'ppo_clip' does not accept"):
        await learner.step(wrong)
    with pytest.raises(LearnerError, match="names objective 'policy'"):
        await learner.step(Batch(trajectories=tuple(groups()), objectives={}))
    with pytest.raises(LearnerError, match="no critic"):
        await learner.annotate(mixed_batch(), frozenset({"values"}))
    with pytest.raises(LearnerError, match="without a channel"):
        await learner.publish(1)
    await learner.close()


async def test_gradient_checkpointing_changes_nothing_but_memory(model: str) -> None:
    plain = await started(model)
    saving = await started(model, LearnerConfig(device="cpu", lr=1e-3, gradient_checkpointing=True))
    one, other = await plain.step(mixed_batch()), await saving.step(mixed_batch())
    assert other["learner/grad_norm"] == pytest.approx(one["learner/grad_norm"], rel=1e-5)
    await plain.close()
    await saving.close()


async def test_bfloat16_gives_nearly_the_same_gradient_norm(model: str) -> None:
    exact = await started(model)
    rough = await started(model, LearnerConfig(device="cpu", lr=1e-3, dtype="bfloat16"))
    imitate = Batch(trajectories=tuple(groups()), objectives={"policy": Objective(loss="cross_entropy")})
    one, other = await exact.step(imitate), await rough.step(imitate)
    assert other["learner/loss"] == pytest.approx(one["learner/loss"], rel=0.05)
    assert other["learner/grad_norm"] == pytest.approx(one["learner/grad_norm"], rel=0.1)
    await exact.close()
    await rough.close()


async def test_bfloat16_gives_nearly_the_same_gradient_to_a_confident_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_model, "quicken_norms", lambda _: None)  # as on a GPU: norms whose results are float32
    batch = Batch(trajectories=(sure_of_itself(tmp_path),), objectives={"policy": Objective(loss="cross_entropy")})
    found: list[torch.Tensor] = []
    for dtype in ("float32", "bfloat16"):
        learner = await started(str(tmp_path), LearnerConfig(device="cpu", dtype=dtype))
        assert np.median((await learner.logprobs(batch))[0][4:]) > np.log(0.95)
        _, slopes = await _loss_and_gradient(learner, batch.trajectories, batch.objectives["policy"])
        found.append(torch.cat([slope.flatten() for slope in slopes.values()]))
        await learner.close()
    exact, rounded = found
    assert (rounded - exact).norm() < 0.2 * exact.norm()


def sure_of_itself(folder: Path) -> Trajectory:
    """What a model, saved to the folder, says with great confidence."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=500,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=96,
        max_position_embeddings=128,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.lm_head.weight.data.normal_(0, 1.6)
    model.save_pretrained(folder)
    ids = torch.randint(0, 500, (1, 4))
    with torch.no_grad():
        for _ in range(60):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return Trajectory(token_ids=ids[0].numpy(), sampled=np.arange(64) >= 4)


async def test_what_an_optimizer_remembers_comes_back_on_the_device_of_its_parameter(
    model: str, tmp_path: Path
) -> None:
    learner = await started(model)
    await learner.step(mixed_batch())
    await learner.save(str(tmp_path))
    elsewhere: dict[torch.Tensor, str] = {
        torch.nn.Parameter(p.detach().to("meta")): name for p, name in learner._parameter_names().items()
    }
    optimizer = torch.optim.AdamW(list(elsewhere), fused=False)
    read_state(str(tmp_path), optimizer, elsewhere)
    assert len(optimizer.state) == len(elsewhere)
    assert {(kind, m.device.type) for moments in optimizer.state.values() for kind, m in moments.items()} == {
        (kind, "meta") for kind in ("step", "exp_avg", "exp_avg_sq")
    }
    await learner.close()


async def test_work_before_start_says_what_to_do(model: str) -> None:
    learner = TorchLearner(LearnerConfig(device="cpu"), model=model, seed=0, channel=None, total_steps=1)
    with pytest.raises(LearnerError, match=r"await start\(\) first"):
        await learner.step(mixed_batch())
    await learner.close()
