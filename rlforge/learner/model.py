"""Models as Hugging Face folders: made from scratch, loaded for training, saved."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AutoConfig,
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
_LOGIT_CHANGES = ("attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale")


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
    """A model for training: float32 weights, attention of packs, no dropout (what is sampled is sampled without).

    Raises LearnerError for models we would mis-score.
    """
    disable_progress_bar()  # a bar a shard, written across the run's own progress
    config = AutoConfig.from_pretrained(source)
    for name in _noises(config):
        setattr(config, name, 0.0)
    model = AutoModelForCausalLM.from_pretrained(
        source, config=config, dtype=torch.float32, attn_implementation=ATTENTION
    )
    if reason := _unlike_ours(model):
        raise LearnerError(f"model '{source}' {reason}")
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


def _noises(config: Any) -> list[str]:
    """Settings that make a model in training another function at every pass: kinds of dropout, a router's jitter."""
    values: dict[str, Any] = config.to_dict()
    return [name for name, value in values.items() if isinstance(value, float) and ("drop" in name or "jitter" in name)]


def _unlike_ours(model: PreTrainedModel) -> str:
    """What in a model the learner would leave out of its logprobs; empty when nothing."""
    config: Any = model.config
    for name in _LOGIT_CHANGES:
        value = getattr(config, name, None)
        if value not in (None, 1, 1.0):
            return f"sets {name}={value}, which the learner's logprobs do not apply"
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        return "has an output head with a bias, which the learner's logprobs do not add"
    if not model.is_backend_compatible():
        return "computes attention in a way of its own, so that trajectories of one pack would see one another"
    return _narrow(config)


def _narrow(config: Any) -> str:
    """Why packed attention, which sees a whole trajectory from every layer, is not the model's; empty when it is."""
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"]) - {"full_attention"}
    if others := kinds - {"sliding_attention"}:
        return f"has layers of {', '.join(sorted(others))}, which packed attention does not apply"
    window = getattr(config, "sliding_window", None)
    context = getattr(config, "max_position_embeddings", None) or math.inf
    if not kinds or window is None or window >= context:
        return ""
    return (
        f"has a sliding window of {window} tokens in a context of {context}, which packed attention does not apply; if "
        f"no sequence is to be longer than {window} tokens, say so with max_position_embeddings in its config.json"
    )


def _write(config: Any, tokenizer_source: str, folder: str, seed: int) -> None:
    copy_tokenizer(tokenizer_source, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    save_model(model, folder)
