"""Models as Hugging Face folders: made from scratch, loaded for training, saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PreTrainedModel,
    Qwen3Config,
)
from transformers.utils.logging import disable_progress_bar

from rlforge.errors import LearnerError
from rlforge.learner.attention import ATTENTION, packed_attention
from rlforge.learner.config import ModelInitConfig
from rlforge.learner.norms import quicken_norms

AttentionInterface.register(ATTENTION, packed_attention)

ARCHITECTURES: dict[str, Any] = {"llama": LlamaConfig, "qwen3": Qwen3Config}

_MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "*.bin", "config.json", "generation_config.json")

# What these would do to the logits is not in our logprobs; a model that sets one is refused rather than mis-scored.
_LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def initialize_model(config: ModelInitConfig, *, tokenizer_folder: str, folder: str, seed: int) -> None:
    """Write a freshly initialised model to `folder`: float32 safetensors, config, generation config, tokenizer files.

    The vocabulary is the tokenizer's. Deterministic: same arguments, same bytes.
    """
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    shape = ARCHITECTURES[config.architecture](
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.context,
        tie_word_embeddings=config.tie_embeddings,
        initializer_range=config.init_std,
        use_cache=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    _write(shape, tokenizer_folder, folder, seed)


def load_model(source: str, device: torch.device) -> PreTrainedModel:
    """A model for training: float32 weights, attention of packs. Raises LearnerError for models we would mis-score."""
    disable_progress_bar()  # a bar a shard, written across the run's own progress
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation=ATTENTION)
    for name in _LOGIT_CHANGES:
        value = getattr(model.config, name, None)
        if value not in (None, 1, 1.0):
            raise LearnerError(f"model '{source}' sets {name}={value}, which the learner's logprobs do not apply")
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise LearnerError(f"model '{source}' has sliding-window layers, which packed attention does not apply")
    model.to(device)  # pyright: ignore[reportArgumentType]  # the stub's first parameter is the model itself
    if device.type == "cpu":
        quicken_norms(model)
    return model


def copy_tokenizer(source: str, folder: str) -> None:
    """Put the tokenizer's files (chat template included) into `folder`: a copy where `source` is a folder."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if not Path(source).is_dir():
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        return
    for path in sorted(Path(source).iterdir()):
        skip = any(path.match(pattern) for pattern in _MODEL_FILES) or path.name.startswith("trainer_state.")
        if path.is_file() and not skip:
            shutil.copyfile(path, target / path.name)


def save_model(model: PreTrainedModel, folder: str) -> None:
    """Write weights and configuration in Hugging Face layout."""
    disable_progress_bar()
    model.save_pretrained(folder)


def named_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Weights by their name in the checkpoint, tied ones once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _write(config: Any, tokenizer_source: str, folder: str, seed: int) -> None:
    copy_tokenizer(tokenizer_source, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    save_model(model, folder)
