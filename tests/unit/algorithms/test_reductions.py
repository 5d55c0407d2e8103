"""Reductions: hand-worked weights, and the same loss and gradient for any split into micro-batches."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlforge.algorithms.objectives import OBJECTIVES, TokenInputs
from rlforge.algorithms.reductions import REDUCTIONS, token_mean

EVERY_REDUCTION = pytest.mark.parametrize("name", sorted(REDUCTIONS))


def weigh(name, lengths, weights=None, groups=None):
    options = {"length": 10.0} if name == "constant_length" else {}
    weights = [1.0] * len(lengths) if weights is None else weights
    groups = [0] * len(lengths) if groups is None else groups
    return REDUCTIONS[name](
        torch.tensor(lengths), torch.tensor(weights, dtype=torch.float64), torch.tensor(groups).long(), **options
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_mean", [1 / 12] * 3),
        ("per_prompt_token_mean", [1 / (2 * 8), 1 / (2 * 8), 1 / (2 * 4)]),
        ("sequence_mean_token_sum", [1 / 3] * 3),
        ("sequence_mean_token_mean", [1 / 6, 1 / 18, 1 / 12]),
        ("constant_length", [1 / 30] * 3),
    ],
)
def test_weights_of_three_rollouts_worked_by_hand(name, expected):
    # 2, 6 and 4 sampled tokens; the first two share a prompt
    assert weigh(name, [2, 6, 4], groups=[5, 5, 9]).tolist() == pytest.approx(expected)


@EVERY_REDUCTION
def test_a_fork_into_equal_halves_weighs_as_much_as_the_rollout_it_came_from(name):
    whole = weigh(name, [4, 6], groups=[0, 1])
    forked = weigh(name, [4, 4, 6], weights=[0.5, 0.5, 1.0], groups=[0, 0, 1])
    assert (forked[0] + forked[1]).item() == pytest.approx(whole[0].item())
    assert forked[2].item() == pytest.approx(whole[1].item())


@EVERY_REDUCTION
def test_an_empty_mask_weighs_nothing_and_is_never_nan(name):
    for lengths in ([0, 0], []):
        weights = weigh(name, lengths)
        assert weights.isfinite().all()
        assert (weights * torch.tensor(lengths)).sum().item() == 0


@EVERY_REDUCTION
def test_an_empty_trajectory_among_others_is_never_nan(name):
    assert weigh(name, [0, 3], groups=[0, 1]).isfinite().all()


@EVERY_REDUCTION
def test_empty_mask_has_zero_loss_and_zero_gradient(name):
    logits = torch.tensor([0.5, -0.5], requires_grad=True)
    none = torch.log_softmax(logits, -1)[:0]
    outcome = OBJECTIVES["ppo_clip"](
        TokenInputs(logprobs=none, behaviour_logprobs=none.detach(), advantages=none.detach(), sequence=none.long())
    )
    loss = (outcome.loss * weigh(name, [0])[outcome.loss.long()]).sum()
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == [0.0, 0.0]


def test_one_token_alone_is_legal():
    assert all(weigh(name, [1]).isfinite().all() for name in REDUCTIONS)


def test_tokens_that_an_objective_rejects_stay_in_the_denominator():
    behaviour = torch.zeros(4)
    logprobs = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True)  # the last two are beyond the clip
    inputs = TokenInputs(
        logprobs=logprobs, behaviour_logprobs=behaviour, advantages=torch.ones(4), sequence=torch.tensor([0, 0, 1, 1])
    )
    weights = token_mean(torch.tensor([2, 2]), torch.ones(2), torch.zeros(2).long())
    (OBJECTIVES["ppo_clip"](inputs).loss * weights[inputs.sequence]).sum().backward()
    assert logprobs.grad.tolist() == [-0.25, -0.25, 0.0, 0.0]


def test_weights_keep_the_type_they_were_given():
    assert token_mean(torch.tensor([2]), torch.ones(1), torch.zeros(1).long()).dtype == torch.float32


steps = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([1.0, 0.5, 0.25]), st.integers(0, 3)), min_size=1, max_size=8
)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@EVERY_REDUCTION
@settings(max_examples=8)
@given(step=steps, data=st.data())
def test_any_split_into_micro_batches_has_the_same_gradient(objective, name, step, data):
    lengths = [length for length, _, _ in step]
    per_token = weigh(name, lengths, [w for _, w, _ in step], [g for _, _, g in step])
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    parameters = torch.randn(5, dtype=torch.float64, generator=draw)
    features = [torch.randn(n, 5, dtype=torch.float64, generator=draw) for n in lengths]
    behaviour = [torch.randn(n, dtype=torch.float64, generator=draw) for n in lengths]

    def slope(parts):
        leaf = parameters.clone().requires_grad_()
        for part in parts:
            sequence = torch.tensor([i for i, s in enumerate(part) for _ in range(lengths[s])]).long()
            inputs = TokenInputs(
                logprobs=torch.cat([features[s] for s in part]) @ leaf,
                behaviour_logprobs=torch.cat([behaviour[s] for s in part]),
                advantages=torch.cat([torch.full((lengths[s],), (-1.0) ** s, dtype=torch.float64) for s in part]),
                sequence=sequence,
            )
            (OBJECTIVES[objective](inputs).loss * per_token[torch.tensor(part)][sequence]).sum().backward()
        return leaf.grad

    order = data.draw(st.permutations(range(len(step))))
    cuts = data.draw(st.sets(st.integers(1, len(step)), max_size=4)) | {len(step)}
    starts = [0, *sorted(cuts)]
    split = [order[a:b] for a, b in pairwise(starts) if b > a]
    torch.testing.assert_close(slope(split), slope([list(range(len(step)))]), rtol=1e-9, atol=1e-10)
