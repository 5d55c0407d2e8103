import math

import pytest
import torch

from rlforge.generators.transformers_model import sample
from rlforge.types import Sampling

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])


def draws(sampling: Sampling, count: int = 4000) -> list[tuple[int, float]]:
    stream = torch.Generator().manual_seed(0)
    return [sample(LOGITS, sampling, stream) for _ in range(count)]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_and_logprobs_follow_the_tempered_softmax(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(-1)
    found = draws(Sampling(temperature=temperature))
    for token in range(4):
        share = sum(drawn == token for drawn, _ in found) / len(found)
        assert share == pytest.approx(float(expected[token]), abs=0.03)
    assert all(math.isclose(logprob, math.log(expected[token]), abs_tol=1e-5) for token, logprob in found)


def test_greedy_reports_the_plain_softmax() -> None:
    token, logprob = sample(LOGITS, Sampling(temperature=0.0), torch.Generator())
    assert token == 0
    assert logprob == pytest.approx(float(LOGITS.log_softmax(-1)[0]))


def test_top_k_renormalises_over_the_kept_tokens() -> None:
    found = draws(Sampling(top_k=2))
    assert {token for token, _ in found} == {0, 1}
    assert found[0][1] == pytest.approx(float(LOGITS[:2].log_softmax(-1)[found[0][0]]))


def test_top_p_keeps_the_token_that_crosses_the_mass() -> None:
    assert {token for token, _ in draws(Sampling(top_p=0.7))} == {0, 1}
    assert {token for token, _ in draws(Sampling(top_p=0.1))} == {0}


def test_a_token_without_mass_is_never_drawn() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf])
    stream = torch.Generator().manual_seed(0)
    assert {sample(logits, Sampling(), stream)[0] for _ in range(500)} == {1}
