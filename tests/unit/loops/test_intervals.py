"""Intervals and pass@k against hand-worked cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlforge.loops.intervals import mean_interval, pass_at_k, wilson


def test_wilson_of_nine_in_ten_is_the_textbook_interval() -> None:
    found = wilson([True] * 9 + [False])
    assert found.value == 0.9
    assert found.low == pytest.approx(0.5958, abs=1e-4)
    assert found.high == pytest.approx(0.9821, abs=1e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_wilson_stays_within_0_and_1_around_its_share(trials: list[bool]) -> None:
    found = wilson(trials)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_no_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="no trials"):
        wilson([])


def test_mean_interval_of_known_numbers() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    half = 1.959964 * math.sqrt(5 / 3) / 2
    assert (found.value, found.low) == (2.5, pytest.approx(2.5 - half, abs=1e-5))
    assert mean_interval([0.5]).low == 0.5
    assert math.isnan(mean_interval([]).value)


def test_pass_at_k_is_the_chance_of_a_hit_among_k_of_n() -> None:
    attempts = [[True, False, False, False], [False] * 4, [True] * 4, [True]]
    assert pass_at_k(attempts, 2) == pytest.approx([0.5, 0.0, 1.0])
    assert pass_at_k(attempts, 1) == pytest.approx([0.25, 0.0, 1.0, 1.0])
