from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    GPT2Config,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
)

from rlforge.errors import LearnerError
from rlforge.learner.config import LearnerConfig
from rlforge.learner.learner import TorchLearner
from rlforge.learner.model import initialize_model, load_model
from rlforge.types import Batch
from tests.unit.learner.batches import groups
from tests.unit.learner.conftest import SHAPE


def test_a_model_from_scratch_is_the_same_bytes_under_a_seed(tokenizer_folder: str, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        initialize_model(SHAPE, tokenizer_folder=tokenizer_folder, folder=str(tmp_path / name), seed=seed)
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= files
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "a")) == AutoConfig.from_pretrained(tmp_path / "a").vocab_size


def test_a_model_whose_logits_we_would_get_wrong_is_refused(make_model: Callable[..., str], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_model())
    model.config.final_logit_softcapping = 30.0
    model.save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match="final_logit_softcapping=30"):
        load_model(str(tmp_path), torch.device("cpu"))


def saved(config: Any, folder: Path) -> str:
    """A tiny random model of another architecture, without a tokenizer."""
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


TINY: dict[str, Any] = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 0,
    "bos_token_id": 0,
}
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [MistralConfig, Phi3Config])
def test_a_window_below_the_context_is_refused_and_one_that_covers_it_is_not(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match="sliding window of 8 tokens in a context of 64"):
        load_model(saved(kind(**TINY, sliding_window=8), tmp_path / "narrow"), CPU)
    load_model(saved(kind(**TINY, sliding_window=64), tmp_path / "wide"), CPU)
    load_model(saved(kind(**TINY, sliding_window=None), tmp_path / "none"), CPU)


def test_windows_of_some_layers_are_refused_and_those_that_are_off_are_not(tmp_path: Path) -> None:
    some = Qwen2Config(**TINY, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    with pytest.raises(LearnerError, match="sliding window of 8"):
        load_model(saved(some, tmp_path / "some"), CPU)
    load_model(saved(Qwen2Config(**TINY, use_sliding_window=False, sliding_window=8), tmp_path / "off"), CPU)


def test_layers_that_are_no_attention_are_refused(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(Qwen2Config(**TINY))
    model.config.layer_types = ["full_attention", "linear_attention"]
    model.save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match="layers of linear_attention"):
        load_model(str(tmp_path), CPU)


def test_an_output_head_with_a_bias_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match="output head with a bias"):
        load_model(saved(PhiConfig(**TINY), tmp_path), CPU)


def test_a_model_whose_attention_is_its_own_is_refused(tmp_path: Path) -> None:
    config = BloomConfig(vocab_size=24, hidden_size=16, n_layer=1, n_head=2)
    with pytest.raises(LearnerError, match="attention in a way of its own"):
        load_model(saved(config, tmp_path), CPU)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "opt"])
async def test_a_model_made_with_dropout_scores_what_it_samples_in_training_too(
    kind: str, checkpointing: bool, tmp_path: Path
) -> None:
    configs: dict[str, Any] = {
        "gpt2": GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0),
        "opt": OPTConfig(**TINY, ffn_dim=16, word_embed_proj_dim=16, dropout=0.4, attention_dropout=0.4, layerdrop=0.4),
    }
    folder = saved(configs[kind], tmp_path)
    config = LearnerConfig(device="cpu", gradient_checkpointing=checkpointing)
    learner = TorchLearner(config, model=folder, seed=0, channel=None, total_steps=1)
    await learner.start()
    batch = Batch(trajectories=tuple(groups()), objectives={})
    scored = await learner.logprobs(batch)
    one = batch.trajectories[0].token_ids
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logprobs = plain(torch.from_numpy(one)[None]).logits[0].log_softmax(-1)
    expected = logprobs[:-1].gather(1, torch.from_numpy(one)[1:, None])[:, 0]
    assert scored[0][1:] == pytest.approx(expected.tolist(), abs=1e-4)
    await learner.close()
