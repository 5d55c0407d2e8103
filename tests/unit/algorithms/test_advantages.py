"""Group advantages: hand-worked cases, float64 evaluations of the formulas, and properties."""

import math
import random
import time
from statistics import fmean, stdev

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from rlforge.algorithms.advantages import RELATIVE_TOLERANCE, grpo, rloo

NAN = math.nan
METHODS = pytest.mark.parametrize(
    "method", [grpo, lambda r, g: grpo(r, g, std=False), rloo], ids=["grpo", "dr_grpo", "rloo"]
)
rewards_of_a_group = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


def one_group(method, rewards):
    return method(torch.tensor(rewards, dtype=torch.float64), torch.zeros(len(rewards), dtype=torch.long))


def values(method, rewards):
    return one_group(method, rewards).values.tolist()


def has_signal(rewards):
    return max(rewards) - min(rewards) > 1e-3 * max(1, *map(abs, rewards))


# --- hand-worked ---------------------------------------------------------------------------------------------------


def test_one_success_in_four_under_grpo():
    # mean 1/4, deviations (3/4, -1/4 x3), variance (9/16 + 3/16)/3 = 1/4, standard deviation 1/2
    assert values(grpo, [1, 0, 0, 0]) == pytest.approx([1.5, -0.5, -0.5, -0.5])


def test_one_success_in_four_without_std():
    assert values(lambda r, g: grpo(r, g, std=False), [1, 0, 0, 0]) == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_one_success_in_four_under_rloo():
    # the others of the success average 0, those of a failure 1/3
    assert values(rloo, [1, 0, 0, 0]) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])


@METHODS
def test_seven_rewards_of_a_tenth_give_exact_zeros(method):
    outcome = one_group(method, [0.1] * 7)
    assert outcome.values.tolist() == [0.0] * 7
    assert outcome.zero_signal.tolist() == [True]


@METHODS
def test_rewards_equal_up_to_rounding_give_exact_zeros(method):
    assert values(method, [0.3, 0.1 + 0.2, float(torch.tensor(0.3)), 0.3]) == [0.0] * 4


def test_seven_equal_and_one_zero_under_rloo_stay_of_the_size_of_the_rewards():
    assert values(rloo, [0.35] * 7 + [0.0]) == pytest.approx([0.05] * 7 + [-0.35])


def test_rewards_far_from_zero_keep_their_differences():
    assert values(rloo, [1e4 + 1, 1e4, 1e4, 1e4]) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])


@METHODS
@pytest.mark.parametrize("rewards", [[0.7], [0.7, NAN], [NAN, NAN], [NAN]])
def test_fewer_than_two_scored_members_give_exact_zeros_and_are_counted(method, rewards):
    outcome = one_group(method, rewards)
    assert outcome.values.tolist() == [0.0] * len(rewards)
    assert outcome.zero_signal.tolist() == [True]


@METHODS
def test_no_rollouts_at_all_give_nothing(method):
    outcome = one_group(method, [])
    assert outcome.values.shape == (0,)
    assert outcome.zero_signal.shape == (0,)


def test_a_wide_range_neither_overflows_nor_vanishes():
    assert values(grpo, [1e200, 0, 0, 0]) == pytest.approx([1.5, -0.5, -0.5, -0.5])
    assert values(grpo, [1e-200, 0, 0, 0]) == pytest.approx([1.5, -0.5, -0.5, -0.5])


def test_groups_of_any_size_in_any_order_match_the_formula_in_float64():
    draw = random.Random(0)
    groups = [g for g in range(40) for _ in range(draw.randint(1, 9))]
    draw.shuffle(groups)
    rewards = [draw.gauss(g, 1) for g in groups]
    ids = torch.tensor(groups) * 7919 - 3  # ids need not be dense
    reward_tensor = torch.tensor(rewards, dtype=torch.float64)
    normalised, left_out = grpo(reward_tensor, ids), rloo(reward_tensor, ids)
    for row, (group, reward) in enumerate(zip(groups, rewards, strict=True)):
        members = [r for r, g in zip(rewards, groups, strict=True) if g == group]
        others = [r for i, (r, g) in enumerate(zip(rewards, groups, strict=True)) if g == group and i != row]
        alone = len(members) == 1
        expected = 0.0 if alone else (reward - fmean(members)) / stdev(members)
        assert normalised.values[row].item() == pytest.approx(expected, rel=1e-9)
        assert left_out.values[row].item() == pytest.approx(0.0 if alone else reward - fmean(others), rel=1e-9)


def test_float32_rewards_are_reduced_in_float64():
    outcome = grpo(torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3, dtype=torch.long))
    assert outcome.values.dtype == torch.float64


@METHODS
def test_advantages_of_1024_rollouts_take_under_two_milliseconds(method):
    rewards, groups = torch.rand(1024, dtype=torch.float64), torch.arange(1024) // 8

    def seconds():
        start = time.perf_counter()
        method(rewards, groups)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(30)) < 0.002  # the best of many: other work on the machine is not ours


# --- properties ----------------------------------------------------------------------------------------------------


@METHODS
@given(rewards=rewards_of_a_group)
def test_advantages_of_a_group_add_up_to_zero(method, rewards):
    assert math.fsum(values(method, rewards)) == pytest.approx(0, abs=1e-9 * max(1, *map(abs, rewards)) * len(rewards))


@METHODS
@given(rewards=rewards_of_a_group, data=st.data())
def test_members_may_come_in_any_order(method, rewards, data):
    order = data.draw(st.permutations(range(len(rewards))))
    plain = values(method, rewards)
    assert values(method, [rewards[i] for i in order]) == pytest.approx([plain[i] for i in order], rel=1e-6, abs=1e-9)


@METHODS
@given(rewards=rewards_of_a_group, shift=st.floats(-100, 100))
def test_a_shift_of_all_rewards_changes_nothing(method, rewards, shift):
    assume(has_signal(rewards))
    shifted = values(method, [r + shift for r in rewards])
    assert shifted == pytest.approx(values(method, rewards), rel=1e-6, abs=1e-7)


@given(rewards=rewards_of_a_group, scale=st.floats(1e-3, 1e3))
def test_the_scale_of_rewards_drops_out_under_std_and_stays_under_rloo(rewards, scale):
    assume(has_signal(rewards))
    scaled = [r * scale for r in rewards]
    assert values(grpo, scaled) == pytest.approx(values(grpo, rewards), rel=1e-6, abs=1e-9)
    expected = [scale * v for v in values(rloo, rewards)]
    assert values(rloo, scaled) == pytest.approx(expected, rel=1e-6, abs=1e-9 * scale)


@METHODS
@given(rewards=rewards_of_a_group, places=st.lists(st.integers(0, 12), max_size=5))
def test_unscored_members_change_nothing_for_the_others(method, rewards, places):
    with_gaps = list(rewards)
    for place in places:
        with_gaps.insert(min(place, len(with_gaps)), NAN)
    kept = [v for v, r in zip(values(method, with_gaps), with_gaps, strict=True) if not math.isnan(r)]
    assert kept == values(method, rewards)
    assert all(v == 0 for v, r in zip(values(method, with_gaps), with_gaps, strict=True) if math.isnan(r))


@METHODS
@given(rewards=rewards_of_a_group, others=rewards_of_a_group)
def test_groups_do_not_see_one_another(method, rewards, others):
    both = torch.tensor(rewards + others, dtype=torch.float64)
    together = method(both, torch.tensor([4] * len(rewards) + [2] * len(others))).values.tolist()
    assert together == values(method, rewards) + values(method, others)


@METHODS
@given(reward=st.floats(-1e6, 1e6), noise=st.lists(st.floats(-0.4, 0.4), min_size=2, max_size=8))
def test_spread_within_the_tolerance_is_no_signal(method, reward, noise):
    rewards = [reward * (1 + RELATIVE_TOLERANCE * n) for n in noise]
    assert values(method, rewards) == [0.0] * len(rewards)


@given(rewards=rewards_of_a_group)
def test_no_advantage_under_std_exceeds_its_bound(rewards):
    n = len(rewards)
    assert max(map(abs, values(grpo, rewards))) <= (n - 1) / math.sqrt(n) + 1e-9
