"""Objectives on token logprobs: the papers' formulas in float64, and finiteness at any distance."""

import math
from itertools import product

import pytest
import torch

from rlforge.algorithms.objectives import (
    OBJECTIVES,
    TokenInputs,
    cispo,
    cross_entropy,
    entropy,
    gspo,
    importance_sampling,
    kl_penalty,
    objective,
    ppo_clip,
    reduction,
)
from rlforge.algorithms.ratios import truncated_importance_weights
from rlforge.errors import ConfigError, LearnerError

EVERY_OBJECTIVE = pytest.mark.parametrize("name", sorted(OBJECTIVES))


def inputs(logprobs, behaviour, advantages, sequence=None, dtype=torch.float64):
    count = len(logprobs)
    return TokenInputs(
        logprobs=torch.tensor(logprobs, dtype=dtype, requires_grad=True),
        behaviour_logprobs=torch.tensor(behaviour, dtype=dtype),
        advantages=torch.tensor(advantages, dtype=dtype),
        sequence=torch.tensor(sequence if sequence is not None else [0] * count, dtype=torch.long),
    )


def gradient(given, outcome):
    return torch.autograd.grad(outcome.loss.sum(), given.logprobs)[0].tolist()


# ratios 0.5, 1, 1.5 for a good and for a bad advantage
RATIOS = [0.5, 1.0, 1.5, 0.5, 1.0, 1.5]
BEHAVIOUR = [-1.0, -0.5, -2.0, -0.1, -3.0, -0.7]
ADVANTAGES = [2.0, 2.0, 2.0, -1.0, -1.0, -1.0]
SEQUENCE = [0, 0, 0, 1, 1, 1]


def standard():
    return inputs([b + math.log(r) for b, r in zip(BEHAVIOUR, RATIOS, strict=True)], BEHAVIOUR, ADVANTAGES, SEQUENCE)


def test_ppo_clip_worked_by_hand():
    given = standard()
    outcome = ppo_clip(given, clip_low=0.2, clip_high=0.3)
    # min(rA, clip(r, .8, 1.3)A): 1.0, 2.0, 2.6 | -0.8, -1.0, -1.5
    assert outcome.loss.tolist() == pytest.approx([-1.0, -2.0, -2.6, 0.8, 1.0, 1.5])
    # -rA where the bound does not hold, 0 where it does
    assert gradient(given, outcome) == pytest.approx([-1.0, -2.0, 0.0, 0.0, 1.0, 1.5])
    assert outcome.stats["clip_fraction"].tolist() == [0, 0, 1, 1, 0, 0]
    assert outcome.stats["ratio"].tolist() == pytest.approx(RATIOS)


def test_dual_clip_bounds_the_loss_of_a_bad_token_only():
    given = inputs([-1.0, -1.0], [-6.0, -6.0], [-0.5, 0.5])
    outcome = ppo_clip(given, clip_high=1e9, dual_clip=3.0)
    assert outcome.loss.tolist() == pytest.approx([1.5, -0.5 * math.exp(5)])
    assert gradient(given, outcome)[0] == 0
    assert outcome.stats["dual_clip_fraction"].tolist() == [1, 0]


def test_importance_sampling_worked_by_hand():
    given = standard()
    outcome = importance_sampling(given, cap=1.2)
    weights = [0.5, 1.0, 1.2, 0.5, 1.0, 1.2]
    expected = [-w * a * p for w, a, p in zip(weights, ADVANTAGES, given.logprobs.tolist(), strict=True)]
    assert outcome.loss.tolist() == pytest.approx(expected)
    assert gradient(given, outcome) == pytest.approx([-w * a for w, a in zip(weights, ADVANTAGES, strict=True)])
    assert outcome.stats["clip_fraction"].tolist() == [0, 0, 1, 0, 0, 1]


def test_importance_sampling_on_policy_is_reinforce():
    given = inputs([-1.0, -2.0], [-1.0, -2.0], [0.5, -0.25])
    assert gradient(given, importance_sampling(given)) == [-0.5, 0.25]


def test_importance_weight_of_a_trajectory_is_the_product_of_its_tokens():
    given = standard()
    weights = truncated_importance_weights(
        given.logprobs, given.behaviour_logprobs, given.sequence, cap=2.0, per_sequence=True
    )
    assert weights.tolist() == pytest.approx([0.75] * 6)
    assert not weights.requires_grad


def test_cispo_keeps_the_gradient_of_clipped_tokens():
    given = standard()
    outcome = cispo(given, clip_low=1.0, clip_high=0.2)
    weights = [0.5, 1.0, 1.2, 0.5, 1.0, 1.2]
    assert gradient(given, outcome) == pytest.approx([-w * a for w, a in zip(weights, ADVANTAGES, strict=True)])
    assert outcome.stats["clip_fraction"].tolist() == [0, 0, 1, 0, 0, 1]


def test_gspo_equals_the_sequence_formula_in_value_and_gradient():
    given = standard()
    outcome = gspo(given, clip_low=0.2, clip_high=0.3)
    # the paper's: s = exp(mean log-ratio), loss -min(sA, clip(s)A), mean over the two sequences
    direct = torch.tensor(given.logprobs.tolist(), dtype=torch.float64, requires_grad=True)
    ratios = (direct - given.behaviour_logprobs).view(2, 3).mean(1).exp()
    advantage = torch.tensor([2.0, -1.0], dtype=torch.float64)
    expected = -torch.minimum(ratios * advantage, ratios.clamp(0.8, 1.3) * advantage)
    per_token = reduction("sequence_mean_token_mean")(
        torch.tensor([3, 3]), torch.ones(2).double(), torch.zeros(2).long()
    )
    loss = (outcome.loss * per_token[given.sequence]).sum()
    assert loss.item() == pytest.approx(expected.mean().item())
    mine = torch.autograd.grad(loss, given.logprobs)[0]
    torch.testing.assert_close(mine, torch.autograd.grad(expected.mean(), direct)[0])


def test_cross_entropy_needs_neither_advantages_nor_behaviour():
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    outcome = cross_entropy(TokenInputs(logprobs=logprobs, sequence=torch.tensor([0, 0])))
    assert outcome.loss.tolist() == [1.0, 2.0]


@EVERY_OBJECTIVE
def test_extreme_log_ratios_give_finite_losses_and_gradients(name):
    cases = list(product([100.0, -100.0, 1e4, -1e4, 0.0], [1.0, -1.0]))
    given = inputs([d for d, _ in cases], [0.0] * len(cases), [a for _, a in cases], range(len(cases)), torch.float32)
    outcome = OBJECTIVES[name](given)
    assert outcome.loss.isfinite().all()
    assert all(math.isfinite(g) for g in gradient(given, outcome))
    assert all(stat.isfinite().all() for stat in outcome.stats.values())


@EVERY_OBJECTIVE
def test_no_tokens_give_no_loss_and_no_gradient(name):
    given = inputs([], [], [])
    outcome = OBJECTIVES[name](given)
    assert outcome.loss.shape == (0,)
    assert outcome.loss.sum().item() == 0
    assert gradient(given, outcome) == []


@EVERY_OBJECTIVE
def test_stats_are_per_token_and_carry_no_gradient(name):
    outcome = OBJECTIVES[name](standard())
    for stat in outcome.stats.values():
        assert stat.shape == outcome.loss.shape
        assert not stat.requires_grad


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"cross_entropy"}))
def test_a_zero_advantage_gives_an_exact_zero_gradient(name):
    given = inputs([-1.0, -2.0], [-1.5, -1.0], [0.0, 0.0])
    assert gradient(given, OBJECTIVES[name](given)) == [0.0, 0.0]


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"cross_entropy"}))
def test_on_policy_all_objectives_have_the_policy_gradient(name):
    given = inputs([-1.0, -2.0, -0.5], [-1.0, -2.0, -0.5], [0.5, -0.25, 2.0], [0, 1, 1])
    assert gradient(given, OBJECTIVES[name](given)) == pytest.approx([-0.5, 0.25, -2.0])


# --- KL and entropy --------------------------------------------------------------------------------------------------


def test_kl_estimates_worked_by_hand():
    policy, reference = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([-1.5], dtype=torch.float64)
    assert kl_penalty("k1", policy, reference).item() == pytest.approx(0.5)
    assert kl_penalty("k2", policy, reference).item() == pytest.approx(0.125)
    assert kl_penalty("k3", policy, reference).item() == pytest.approx(math.exp(-0.5) - 1 + 0.5)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_estimates_are_finite_with_finite_gradients_at_any_distance(kind):
    policy = torch.tensor([100.0, -100.0, 1e4, -1e4, 0.0], requires_grad=True)
    estimate = kl_penalty(kind, policy, torch.zeros(5))
    (slope,) = torch.autograd.grad(estimate.sum(), policy)
    assert estimate.isfinite().all()
    assert slope.isfinite().all()


def _two_distributions():
    logits = torch.tensor([0.2, -0.3, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.tensor([0.0, 0.4, 0.1, -0.2], dtype=torch.float64), -1)
    return logits, torch.log_softmax(logits, -1), reference


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(kind):
    _, policy, reference = _two_distributions()
    exact = (policy.exp() * (policy - reference)).sum()
    assert (policy.exp() * kl_penalty(kind, policy, reference)).sum().item() == pytest.approx(exact.item())


def test_k2_in_the_loss_has_the_gradient_of_the_divergence_and_k1_has_none():
    logits, policy, reference = _two_distributions()
    (exact,) = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)
    drawn = policy.exp().detach()
    (k1,) = torch.autograd.grad((drawn * kl_penalty("k1", policy, reference)).sum(), logits, retain_graph=True)
    (k2,) = torch.autograd.grad((drawn * kl_penalty("k2", policy, reference)).sum(), logits)
    torch.testing.assert_close(k2, exact)
    torch.testing.assert_close(k1, torch.zeros_like(k1), atol=1e-12, rtol=0)


def test_k3_is_never_negative_in_float32():
    distance = torch.linspace(-1e-3, 1e-3, 2001)
    assert kl_penalty("k3", distance, torch.zeros_like(distance)).min() >= -1e-9


def test_entropy_of_known_distributions():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, -math.inf]], requires_grad=True)
    found = entropy(logits)
    assert found.tolist() == pytest.approx([math.log(4), 0.0])
    found.sum().backward()
    assert logits.grad.isfinite().all()


# --- errors ----------------------------------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown objective 'ppo_clp'\. Did you mean 'ppo_clip'\? Known: cispo"):
        objective("ppo_clp")
    with pytest.raises(ConfigError, match=r"unknown reduction 'token_meen'\. Did you mean 'token_mean'\?"):
        reduction("token_meen")
    with pytest.raises(ConfigError, match="unknown KL estimate 'k4'"):
        kl_penalty("k4", torch.zeros(1), torch.zeros(1))


def test_a_batch_without_credit_says_what_to_call():
    bare = TokenInputs(logprobs=torch.zeros(1), sequence=torch.zeros(1).long())
    with pytest.raises(LearnerError, match=r"'ppo_clip' got no advantages; hint: call algorithm\.credit"):
        ppo_clip(bare)
    with pytest.raises(LearnerError, match="got no behaviour logprobs"):
        gspo(TokenInputs(logprobs=torch.zeros(1), sequence=torch.zeros(1).long(), advantages=torch.zeros(1)))
