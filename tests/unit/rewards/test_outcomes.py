"""What a function returns or raises, as an outcome."""

import numpy as np
import pytest

from rlforge.rewards.outcomes import as_outcome, as_outcomes, raised


@pytest.mark.parametrize(
    ("result", "value"),
    [(1, 1), (0.25, 0.25), (True, 1), (False, 0), (np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), 1)],
)
def test_any_kind_of_number_is_the_value(result, value):
    assert as_outcome(result) == {"value": value, "components": {}}
    assert type(as_outcome(result)["value"]) is float


def test_torch_scalar_is_the_value():
    torch = pytest.importorskip("torch")
    assert as_outcome(torch.tensor(0.5))["value"] == 0.5


def test_mapping_holds_components_and_its_value_is_their_sum():
    assert as_outcome({"format": True, "correct": 0.5}) == {"value": 1.5, "components": {"format": 1, "correct": 0.5}}


def test_reward_in_a_mapping_is_the_value_and_no_component():
    assert as_outcome({"reward": 0.7, "length": 12}) == {"value": 0.7, "components": {"length": 12}}


def test_none_declines_for_good():
    outcome = as_outcome(None)
    assert (outcome["error_kind"], outcome["retryable"]) == ("declined", False)


@pytest.mark.parametrize(
    "result",
    [
        "1",
        float("nan"),
        float("inf"),
        [1],
        {},
        {"a": None},
        {"a": "1"},
        {"reward": float("nan")},
        1j,
        np.ones(2),
        10**400,
        {"a": 1e308, "b": 1e308, "reward": float("-inf")},
    ],
)
def test_anything_else_is_malformed_and_shown(result):
    outcome = as_outcome(result)
    assert outcome["error_kind"] == "malformed"
    assert "must return a finite number" in outcome["reason"]


def test_long_results_are_shown_clipped():
    assert len(as_outcome("x" * 10_000)["reason"]) < 400


def test_batch_result_is_one_outcome_for_each():
    assert [outcome.get("value") for outcome in as_outcomes([1, None, 0], 3)] == [1, None, 0]


@pytest.mark.parametrize("result", [[1], 1.0, "ab", None])
def test_batch_result_of_another_length_is_malformed_for_all(result):
    outcomes = as_outcomes(result, 2)
    assert [outcome["error_kind"] for outcome in outcomes] == ["malformed", "malformed"]
    assert "list of 2" in outcomes[0]["reason"]


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (ValueError("x"), "exception", False),
        (ConnectionResetError("x"), "exception", True),
        (TimeoutError("x"), "exception", True),
        (MemoryError(), "memory", False),
        (SystemExit(3), "exception", False),
    ],
)
def test_exception_has_a_kind_and_may_pass_or_not(error, kind, retryable):
    outcome = raised(error, "reward.py")
    assert (outcome["error_kind"], outcome["retryable"]) == (kind, retryable)
