"""What every registered algorithm promises the loop and the learner."""

import inspect
import random

import numpy as np
import pytest
import torch

from rlforge.algorithms.objectives import TokenInputs, objective, reduction
from rlforge.config import build, config_class
from rlforge.interfaces import Algorithm
from rlforge.registry import ALGORITHMS
from rlforge.types import Batch, Objective, Trajectory

KNOWN_NEEDS = {"reference_logprobs", "values"}


@pytest.fixture(params=ALGORITHMS.names())
def name(request):
    return request.param


@pytest.fixture
def algorithm(name):
    return build(ALGORITHMS, config_class(ALGORITHMS, name).parse({"type": name}))


def trajectory(reward, rollout, group, tokens, **facts):
    sampled = np.arange(tokens) >= 2
    return Trajectory(
        token_ids=np.arange(tokens),
        sampled=sampled,
        behaviour_logprobs=np.where(sampled, -0.5, 0).astype(np.float32),
        policy_versions=np.where(sampled, 0, -1),
        reference_logprobs=np.full(tokens, -0.5, np.float32),
        values=np.zeros(tokens, np.float32),
        rollout=rollout,
        group=group,
        reward=reward,
        **facts,
    )


def batch(rewards_by_group):
    """Groups of scored and unscored rollouts; the first member of each group forked into two trajectories."""
    draw, made = random.Random(0), []
    for group, rewards in rewards_by_group.items():
        for member, reward in enumerate(rewards):
            forks = 2 if member == 0 else 1
            for _ in range(forks):
                made.append(trajectory(reward, f"{group}#{member}", group, draw.randint(4, 9), weight=1 / forks))
    return Batch(trajectories=tuple(made), objectives={})


ORDINARY = {"a": [1.0, 0.0, 0.5, 0.0], "b": [0.0, 1.0, 1.0]}


def by_rollout(credited):
    return {
        (t.rollout, place): t.advantages.tolist()
        for place, t in enumerate(sorted(credited.trajectories, key=lambda t: t.rollout))
    }


def test_it_plays_the_role(algorithm):
    assert isinstance(algorithm, Algorithm)
    assert algorithm.needs <= KNOWN_NEEDS
    assert type(algorithm).min_group_size >= 1


def test_every_setting_is_documented_and_has_a_default(name):
    config = config_class(ALGORITHMS, name)
    assert config.parse({"type": name}).type == name
    for key, field in config.model_fields.items():
        assert field.description, f"{name}.{key} has no docstring"


def test_every_sampled_token_gets_a_finite_advantage_and_no_other_token_any(algorithm):
    for made in algorithm.credit(batch(ORDINARY)).trajectories:
        assert made.advantages.dtype == np.float32
        assert made.advantages.shape == made.sampled.shape
        assert np.isfinite(made.advantages).all()
        assert not made.advantages[~made.sampled].any()


def test_better_rollouts_get_larger_advantages_than_worse_ones(algorithm):
    credited = algorithm.credit(batch(ORDINARY)).trajectories
    good = [t.advantages[t.sampled].mean() for t in credited if t.group == "a" and t.reward == 1.0]
    bad = [t.advantages[t.sampled].mean() for t in credited if t.group == "a" and t.reward == 0.0]
    assert min(good) > max(bad)


def test_nothing_but_advantages_and_objectives_changes(algorithm):
    given = batch(ORDINARY)
    credited = algorithm.credit(given)
    for before, after in zip(given.trajectories, credited.trajectories, strict=True):
        assert before.advantages is None
        assert after.token_ids is before.token_ids
        assert after.sampled is before.sampled
        assert (after.rollout, after.group, after.weight, after.reward) == (
            before.rollout,
            before.group,
            before.weight,
            before.reward,
        )


def test_every_objective_it_names_is_one_the_learner_can_compute(algorithm):
    credited = algorithm.credit(batch(ORDINARY))
    assert {t.objective for t in credited.trajectories} <= set(credited.objectives)
    for goal in credited.objectives.values():
        assert isinstance(goal, Objective)
        inspect.signature(objective(goal.loss)).bind(None, **goal.options)
        inspect.signature(reduction(goal.reduction)).bind(None, None, None, **goal.reduction_options)


def test_its_loss_on_policy_has_a_finite_gradient_that_favours_the_better(algorithm):
    credited = algorithm.credit(batch({"a": [1.0, 0.0]}))
    goal, made = credited.objectives["policy"], credited.trajectories
    lengths = torch.tensor([int(t.sampled.sum()) for t in made])
    sequence = torch.repeat_interleave(torch.arange(len(made)), lengths)
    logprobs = torch.full((len(sequence),), -0.5, requires_grad=True)
    inputs = TokenInputs(
        logprobs=logprobs,
        behaviour_logprobs=logprobs.detach(),
        advantages=torch.from_numpy(np.concatenate([t.advantages[t.sampled] for t in made])),
        sequence=sequence,
    )
    weights = reduction(goal.reduction)(
        lengths, torch.tensor([t.weight for t in made]), torch.zeros(len(made)).long(), **goal.reduction_options
    )
    (objective(goal.loss)(inputs, **goal.options).loss * weights[sequence]).sum().backward()
    better = torch.tensor([t.reward == 1.0 for t in made])[sequence]
    assert (logprobs.grad[better] < 0).all()
    assert (logprobs.grad[~better] > 0).all()


def test_an_unscored_rollout_leaves_the_rest_as_if_it_had_not_been_drawn(algorithm):
    whole = algorithm.credit(batch({"a": [1.0, 0.0, None], "b": [None, None]}))
    rest = algorithm.credit(batch({"a": [1.0, 0.0]}))
    assert by_rollout(whole) == by_rollout(rest)


def test_a_group_without_signal_gets_exact_zeros_and_is_counted(algorithm):
    if type(algorithm).min_group_size < 2:
        pytest.skip("this algorithm has no group baseline")
    credited = algorithm.credit(batch({"same": [0.1] * 7, "alone": [1.0, None], "mixed": [1.0, 0.0]}))
    for made in credited.trajectories:
        assert made.group == "mixed" or not made.advantages.any()
    assert credited.metrics["groups/zero_signal"] == 2


def test_other_objectives_pass_through_untouched(algorithm):
    replayed = trajectory(None, "book", "", 5, objective="imitation")
    given = batch(ORDINARY)
    credited = algorithm.credit(
        Batch(trajectories=(replayed, *given.trajectories), objectives={"imitation": Objective(loss="cross_entropy")})
    )
    assert credited.trajectories[0] is replayed
    assert credited.objectives["imitation"].loss == "cross_entropy"


def test_an_empty_batch_is_legal(algorithm):
    assert algorithm.credit(Batch(trajectories=(), objectives={})).trajectories == ()


def test_a_kl_term_asks_for_the_reference_model(name):
    config = config_class(ALGORITHMS, name)
    if "kl" not in config.model_fields:
        pytest.skip("this algorithm has no KL term")
    asking = build(ALGORITHMS, config.parse({"type": name, "kl": {"kind": "k2", "coefficient": 0.01}}))
    assert "reference_logprobs" in asking.needs
    penalty = asking.credit(batch(ORDINARY)).objectives["policy"].kl
    assert (penalty.kind, penalty.coefficient) == ("k2", 0.01)
    assert build(ALGORITHMS, config.parse({"type": name})).credit(batch(ORDINARY)).objectives["policy"].kl is None
