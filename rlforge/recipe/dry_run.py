"""The same recipe with a tiny random model (Qwen3 or Llama) in its place and two real steps a stage."""

from __future__ import annotations

from typing import Any, Literal

from rlforge.learner.config import ModelInitConfig
from rlforge.model_folder import model_config, positions
from rlforge.recipe.document import ModelConfig, Recipe

STEPS = 2
_TASKS = 8
_GROUPS = 4
_NEW_TOKENS = 32
_TURNS = 4


def dry_run(recipe: Recipe) -> Recipe:
    """Every part of the recipe for real, except the size of the model, of a step, of replies and of the evaluations."""
    data = recipe.model_dump(mode="json")
    data["name"] = f"{recipe.name}-dry-run"
    data["model"] = _tiny(recipe.model).model_dump(mode="json")
    names = {stage["name"] for stage in data["stages"]}
    for stage in data["stages"]:
        _shorten(stage, names)
        if "max_tokens" in stage:  # all there is: another tokenizer may need more tokens for the same conversation
            stage["max_tokens"] = data["model"]["init"]["context"]
    return Recipe.parse(data)


def _shorten(stage: dict[str, Any], names: set[str]) -> None:
    stage |= {"steps": STEPS, "checkpoint_every": 1, "stop_when": None}
    earlier = (stage["start_from"] or "").partition("/")[0]
    stage["start_from"] = f"{earlier}/final" if earlier in names else None  # of two steps, none but the last
    if "groups_per_step" in stage:
        stage["groups_per_step"] = min(stage["groups_per_step"], _GROUPS)
    if "max_turns" in stage["orchestrator"]:
        stage["orchestrator"]["max_turns"] = min(stage["orchestrator"]["max_turns"], _TURNS)
    if "sampling" in stage:
        stage["sampling"]["max_new_tokens"] = min(stage["sampling"]["max_new_tokens"], _NEW_TOKENS)
    if "batch_size" in stage:
        stage["batch_size"] = min(stage["batch_size"], _TASKS)
    schedule = stage["learner"]["schedule"]
    schedule["warmup_steps"] = min(schedule["warmup_steps"], 1)
    schedule["anneal_steps"] = 1 if schedule["anneal_steps"] else None
    for evaluation in stage["evaluations"]:
        evaluation["max_new_tokens"] = min(evaluation["max_new_tokens"] or _NEW_TOKENS, _NEW_TOKENS)
        evaluation |= {"limit": min(evaluation["limit"], _TASKS), "every": 1, "samples": min(evaluation["samples"], 2)}


def _tiny(model: ModelConfig) -> ModelConfig:
    """Two narrow layers; a model from the hub gets a byte tokenizer, because its own may not be on this machine."""
    context = model.init.context if model.init else positions(str(model.path)) or 2048
    shape = ModelInitConfig(
        architecture=_architecture(model),
        hidden_size=64,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=32,
        intermediate_size=128,
        context=min(context, 4096),
        tie_embeddings=model.init.tie_embeddings
        if model.init
        else model_config(str(model.path)).get("tie_word_embeddings", True),
    )
    tokenizer = model.tokenizer.model_dump() if model.init else {"type": "byte"}
    return ModelConfig.parse({"init": shape.model_dump(), "tokenizer": tokenizer})


def _architecture(model: ModelConfig) -> Literal["qwen3", "llama"]:
    if model.init:
        return model.init.architecture
    told = str(model_config(str(model.path)).get("model_type", model.path)).lower()
    return "llama" if "llama" in told else "qwen3"
