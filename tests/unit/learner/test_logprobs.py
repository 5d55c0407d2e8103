import pytest
import torch

from rlforge.learner.logprobs import token_logprobs


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunked_values_and_gradients_equal_the_whole_matrix(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64).float().requires_grad_()
    head = torch.randn(31, 8, generator=generator).requires_grad_()
    targets = torch.randint(31, (23,), generator=generator)
    temperature = torch.rand(23, generator=generator) + 0.5
    mix = torch.randn(2, 23, generator=generator)

    def gradients(logprobs: torch.Tensor, entropy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((mix[0] * logprobs + mix[1] * entropy).sum(), (hidden, head))

    whole = torch.log_softmax(hidden @ head.T / temperature[:, None], -1)
    expected = (whole.gather(1, targets[:, None])[:, 0], -(whole.exp() * whole).sum(-1))
    got = token_logprobs(hidden, head, targets, temperature, chunk=chunk)
    for one, other in zip((*got, *gradients(*got)), (*expected, *gradients(*expected)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_nothing_to_score_gives_empty_tensors() -> None:
    empty = torch.zeros(0, dtype=torch.long)
    logprobs, entropy = token_logprobs(torch.zeros(0, 4), torch.zeros(9, 4), empty, torch.zeros(0), chunk=3)
    assert logprobs.shape == entropy.shape == (0,)


def test_in_bfloat16_a_confident_token_has_nearly_the_gradient_it_has_in_float32() -> None:
    """Both passes must see the same logits: p, recomputed and normalised, is all of a confident token's gradient."""
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(400, 256, generator=generator) / 16
    targets = torch.randint(400, (64,), generator=generator)
    chosen = head[targets] / head[targets].square().sum(-1, keepdim=True)
    hidden = torch.randn(64, 256, generator=generator) + 14 * chosen
    credit = torch.randn(64, generator=generator)
    found: list[torch.Tensor] = []
    for rough in (False, True):
        inputs = (hidden.clone().requires_grad_(), head.clone().requires_grad_())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rough):
            logprobs, _ = token_logprobs(*inputs, targets, torch.ones(64), chunk=16)
        assert logprobs.dtype == torch.float32
        assert logprobs.exp().median() > 0.99
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad((credit * logprobs).sum(), inputs)]))
    exact, rounded = found
    assert (rounded - exact).norm() < 0.15 * exact.norm()
