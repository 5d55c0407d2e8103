from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from rlforge.learner.norms import quicken_norms, rms_norm


@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 4, 16)])
def test_value_and_gradients_equal_those_of_transformers(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    theirs = Qwen3RMSNorm(16)
    theirs.weight.data.normal_(generator=generator)
    x = torch.randn(shape, generator=generator).requires_grad_()
    grad = torch.randn(shape, generator=generator)
    expected, got = theirs(x), rms_norm(theirs.weight, theirs.variance_epsilon, x)
    torch.testing.assert_close(got, expected)
    inputs = (x, theirs.weight)
    for one, other in zip(
        torch.autograd.grad(got, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_every_norm_of_a_model_is_quickened_and_variants_are_left_alone(make_model: Callable[..., str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_model(), dtype=torch.float32)
    assert quicken_norms(model) == 2 * 4 + 1
    offset_by_one = GemmaRMSNorm(16)
    offset_by_one.variance_epsilon = offset_by_one.eps
    assert quicken_norms(offset_by_one) == 0
