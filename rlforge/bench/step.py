"""`step`: seconds of one whole training step on Ray against the sum of its raw parts.

The work: a Qwen3 of 0.9 million parameters that has seen enough additions to answer and stop, 32 chat prompts of 25
tokens x 8 completions of at most 8 tokens (four, mostly) at temperature 1, a python scorer, the run folder written.
Ours is `rlforge train` itself: generate, score, learn, publish, log. Raw is a bare `AsyncLLM` for the completions, a
bare torch step on sequences of the same lengths padded to one, and one copy of the weights in memory; it is measured
before and after ours, so that drift of the machine hits both.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from transformers import AutoModelForCausalLM

from rlforge.bench.addition import MODEL_CONTEXT, THREADS, recipe
from rlforge.bench.generate import LOADS, draw_prompts, end_raw_engine, raw_engine, raw_round
from rlforge.bench.runner import BenchResult
from rlforge.recipe import Recipe
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import SilentProgress

WARM_STEPS = 150
STEPS = 24
SKIPPED = 4
ROUNDS = 9
ROLLOUTS, PROMPT_TOKENS, COMPLETION_TOKENS = 256, 25, 4


def run() -> BenchResult:
    """Median seconds of a step, and their ratio to the raw parts' median seconds."""
    with tempfile.TemporaryDirectory(prefix="rlforge-bench-") as folder:
        plan = recipe(Path(folder), name="step", warm_steps=WARM_STEPS, steps=STEPS, evaluate=False)
        run = Path(folder) / "step"
        _train(plan, RunFolder.create(run, plan.yaml()), "warm_start")
        model = str(RunFolder.open(run).resolve("warm_start/final").path)
        before = _raw(model)
        _train(plan, RunFolder.resume(run), "reinforce")
        after = _raw(model)
        lines = [record.metrics for record in RunFolder.open(run).metrics.records("reinforce")][SKIPPED:]
    raw = {name: [*before[name], *after[name]] for name in before}
    parts = {name: statistics.median(seconds) for name, seconds in raw.items()}
    seconds = [line["time/step_s"] for line in lines]
    found = {key: statistics.median(line[key] for line in lines) for key in lines[-1] if key.startswith("time/")}
    return BenchResult(
        name="step",
        value=statistics.median(seconds),
        unit="s",
        ratio=statistics.median(seconds) / sum(parts.values()),
        samples=tuple(seconds),
        extra={**{f"raw_{name}_s": value for name, value in parts.items()}, **found},
    )


def _train(plan: Recipe, folder: RunFolder, stage: str) -> None:
    asyncio.run(train(plan, folder=folder, progress=SilentProgress(), only_stage=stage))


# --- the raw parts -----------------------------------------------------------------------------------------------


def _raw(model: str) -> dict[str, list[float]]:
    generate = asyncio.run(_generate_seconds(model))
    net: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return {
        "generate": generate,
        "learn": _seconds(_padded_step(net)),
        "copy": _seconds(lambda: [parameter.detach().clone() for parameter in net.parameters()]),
    }


async def _generate_seconds(model: str) -> list[float]:
    engine = raw_engine(model, threads=THREADS, context=MODEL_CONTEXT)
    try:
        prompts, _ = draw_prompts(model, LOADS["short"])
        seconds: list[float] = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            await raw_round(engine, prompts, LOADS["short"])
            seconds.append(time.perf_counter() - began)
        return seconds[1:]
    finally:
        await end_raw_engine(engine)


def _padded_step(net: Any) -> Callable[[], object]:
    """Forward, loss on the completions, backward, clip, AdamW: 256 rows of prompt and completion."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    ids = torch.randint(3, net.config.vocab_size, (ROLLOUTS, PROMPT_TOKENS + COMPLETION_TOKENS))
    labels = torch.full_like(ids, -100)
    labels[:, PROMPT_TOKENS - 1 : -1] = ids[:, PROMPT_TOKENS:]

    def step() -> None:
        optimizer.zero_grad()
        logits = net(input_ids=ids, use_cache=False).logits
        functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return step


def _seconds(play: Callable[[], object]) -> list[float]:
    seconds: list[float] = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        play()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]
