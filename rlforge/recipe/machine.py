"""The memory plan: what a recipe will hold at the same time, against what a machine without a GPU has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from rlforge.learner.config import ModelInitConfig
from rlforge.recipe.findings import Case, Finding

_GIB = 1 << 30
_LEARNER_BYTES = 4 + 4 + 8
"""Per parameter, float32: weights, gradients, AdamW's two moments."""
_CPU_KV_GB = 1.0
"""What the vLLM generator takes on a CPU when it is not told."""


def memory_fits(case: Case) -> Iterator[Finding]:
    """Learner, generators and their caches live side by side. Says nothing where a GPU holds them."""
    parameters = model_parameters(case)
    if parameters is None or shutil.which("nvidia-smi"):
        return
    planned = memory_plan(case, parameters)
    total = psutil.virtual_memory().total
    if sum(planned.values()) > total:
        parts = ", ".join(f"{name} {size / _GIB:.1f}" for name, size in planned.items())
        yield Finding(
            severity="error",
            key="model",
            message=f"needs about {sum(planned.values()) / _GIB:.1f} GiB ({parts}), the machine has {total / _GIB:.1f}",
            hint="a smaller model, fewer replicas, a smaller kv_cache_gb, or a larger machine",
        )


def memory_plan(case: Case, parameters: int) -> dict[str, float]:
    """Bytes by what holds them."""
    recipe = case.recipe
    planned = {"learner": float(_LEARNER_BYTES * parameters)}
    if any(getattr(getattr(stage.algorithm, "kl", None), "coefficient", 0) for stage in case.rl_stages):
        planned["reference"] = 4.0 * parameters
    if case.rl_stages or any(stage.evaluations for stage in recipe.stage_list):
        for name, generator in recipe.generators.items():
            cache = _GIB * (getattr(generator, "kv_cache_gb", None) or _CPU_KV_GB)
            planned[f"generator {name}"] = int(getattr(generator, "replicas", 1)) * (4.0 * parameters + cache)
    return planned


def model_parameters(case: Case) -> int | None:
    """Parameters of the recipe's model; None for a hub name that is not on this machine."""
    model = case.recipe.model
    if model.init is not None:
        tokens = {"character": 128, "byte": 259, "bpe": model.tokenizer.vocab_size}[model.tokenizer.type]
        return shape_parameters(model.init, tokens)
    return _stored_parameters(Path(model.path or ""))


def shape_parameters(shape: ModelInitConfig, tokens: int) -> int:
    """Parameters of a model made from scratch, norms left out."""
    attention = shape.hidden_size * shape.head_dim * 2 * (shape.heads + shape.kv_heads)
    block = attention + 3 * shape.hidden_size * shape.intermediate_size
    embeddings = (1 if shape.tie_embeddings else 2) * tokens * shape.hidden_size
    return shape.layers * block + embeddings


def _stored_parameters(folder: Path) -> int | None:
    """From the headers of the folder's safetensors files; no weight is read."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return sum(_header_parameters(file) for file in files) if files else None


def _header_parameters(path: Path) -> int:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        size = 1
        for length in tensor["shape"] if name != "__metadata__" else [0]:
            size *= length
        total += size
    return total
