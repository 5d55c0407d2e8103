"""Two-digit addition, the work that the benches `control` and `step` do: its tasks, its reward, its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlforge.recipe import Recipe
from rlforge.types import Rollout

MODEL_CONTEXT = 64
"""Tokens of the longest prompt and completion."""
THREADS = 1
"""Of the generator's computation."""
SPLITS = {"train": 0.88, "stop": 0.06, "held_out": 0.06}


def tasks() -> Iterator[dict[str, Any]]:
    """All 8,100 additions of two two-digit numbers; as chat prompts of 25 characters and special tokens."""
    for left in range(10, 100):
        for right in range(10, 100):
            yield {"id": f"{left}+{right}", "prompt": f"{left}+{right}=", "answer": str(left + right)}


def exact(rollout: Rollout) -> float:
    """1 for the right sum."""
    return 1.0 if rollout.text.strip() == rollout.task.answer else 0.0


def recipe(
    folder: Path,
    *,
    name: str,
    algorithm: str = "grpo",
    steps: int = 60,
    warm_steps: int = 600,
    start_from: str | None = None,
    evaluate: bool = True,
) -> Recipe:
    """Model from scratch, a weak start by imitation (unless there is one to start from), then reinforcement.

    The weak start ends at a held-out accuracy of 0.3, at the latest after `warm_steps`.
    """
    stages: list[dict[str, Any]] = []
    if start_from is None:
        stages.append(_warm_start(warm_steps))
    stages.append(_reinforcement(algorithm, steps, start_from, evaluate))
    shape = {
        "hidden_size": 128,
        "layers": 4,
        "heads": 4,
        "kv_heads": 2,
        "intermediate_size": 384,
        "context": MODEL_CONTEXT,
    }
    return Recipe.parse(
        {
            "name": name,
            "runs_dir": str(folder),
            "model": {"init": shape, "tokenizer": {"type": "character"}},
            "generators": {"policy": {"type": "vllm", "threads": THREADS, "kv_cache_gb": 1}},
            "rewards": {"scorers": [{"type": "python", "function": "rlforge.bench.addition:exact"}]},
            "stages": stages,
        }
    )


def _warm_start(steps: int) -> dict[str, Any]:
    return {
        "type": "sft",
        "name": "warm_start",
        "data": [_source("train")],
        "steps": steps,
        "batch_size": 128,
        "max_tokens": MODEL_CONTEXT,
        "learner": {"lr": 1e-3, "schedule": {"warmup_steps": 20}},
        "evaluations": [{"name": "stop", "data": [_source("stop")], "every": 10, "max_new_tokens": 8}],
        "stop_when": {"metric": "eval/stop/accuracy", "at_least": 0.3},
        "checkpoint_every": steps,
    }


def _reinforcement(algorithm: str, steps: int, start_from: str | None, evaluate: bool) -> dict[str, Any]:
    held_out = {"name": "held_out", "data": [_source("held_out")], "every": steps, "max_new_tokens": 8}
    return {
        "type": "rl",
        "name": "reinforce",
        "start_from": start_from,
        "data": [_source("train")],
        "steps": steps,
        "groups_per_step": 32,
        "group_size": 8,
        "sampling": {"temperature": 1.0, "max_new_tokens": 8},
        "algorithm": algorithm,
        "learner": {"lr": 2e-4, "schedule": {"warmup_steps": 10}},
        "evaluations": [held_out] if evaluate else [],
        "checkpoint_every": steps,
    }


def _source(split: str) -> dict[str, Any]:
    return {"type": "python", "function": "rlforge.bench.addition:tasks", "splits": SPLITS, "split": split}
