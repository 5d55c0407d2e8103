"""The same recipe and seed give the same run, on Ray and vLLM."""

from __future__ import annotations

import pytest

from rlforge.bench.resume import Trial, deterministic, fingerprint
from rlforge.runlog.folder import RunFolder
from tests.integration.conftest import SIX_STEPS

pytestmark = pytest.mark.timeout(900)


def test_two_synchronous_runs_with_the_same_seed_are_identical(trial: Trial, truth: RunFolder) -> None:
    again = trial.finish("again", SIX_STEPS)
    assert deterministic(again) == deterministic(truth)
    for checkpoint in truth.checkpoints.list("grpo"):
        assert fingerprint(again.resolve(f"grpo/{checkpoint.step}").path) == fingerprint(checkpoint.path)


def test_what_the_runs_compare_on_is_worth_comparing(truth: RunFolder) -> None:
    steps = [line for line in deterministic(truth) if "evaluation" not in line]
    assert len(steps) == 6
    assert all(line["learner/grad_norm"] > 0 for line in steps)
    assert len({line["reward/mean"] for line in steps}) > 3
    weights = [fingerprint(checkpoint.path)["model.safetensors"] for checkpoint in truth.checkpoints.list("grpo")]
    assert len(set(weights)) == 4  # every two steps, and after the third the best so far


def test_the_generator_reports_the_logprobs_of_the_learner_whatever_it_publishes(truth: RunFolder) -> None:
    """Every step learns from tokens of the weights that the learner published before it, as vLLM served them."""
    steps = [line for line in deterministic(truth) if "evaluation" not in line]
    assert len(steps) == 6
    assert all(line["learner/sampled_tokens"] > 100 for line in steps)
    assert max(line["mismatch/logprob_max_abs"] for line in steps) < 1e-4
