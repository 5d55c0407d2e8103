"""`step`: seconds of one whole training step on Ray against the sum of its raw parts.

The work: a Qwen3 of 0.9 million parameters, 32 chat prompts of 25 tokens x 8 completions of at most 8 tokens at
temperature 1, a python scorer, the run folder written. Ours is `rlforge train` itself: generate, score, learn,
publish, log. Raw is a bare `AsyncLLM` for the completions, a bare torch step on the same sequences padded to one
length, and one copy of the weights in memory; it is measured before and after ours, so that drift of the machine
hits both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from transformers import AutoModelForCausalLM

from rlforge.bench.addition import recipe
from rlforge.bench.generate import LOADS, draw_prompts, raw_engine, raw_round
from rlforge.bench.runner import BenchResult
from rlforge.recipe import Recipe
from rlforge.run.model import prepare_model
from rlforge.run.parts import every_source
from rlforge.run.train import train
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import SilentProgress

STEPS = 16
WARM_UP = 4
ROUNDS = 7
ROLLOUTS, PROMPT_TOKENS, NEW_TOKENS = 256, 25, 8


def run() -> BenchResult:
    """Median seconds of a step, and their ratio to the raw parts' median seconds."""
    with tempfile.TemporaryDirectory(prefix="rlforge-bench-") as folder:
        model = _model(Path(folder))
        before = _raw(model)
        ours = _ours(Path(folder))
        after = _raw(model)
    raw = {name: [*before[name], *after[name]] for name in before}
    parts = {name: statistics.median(seconds) for name, seconds in raw.items()}
    seconds = statistics.median(line["time/step_s"] for line in ours)
    laps = {key: statistics.median(line[key] for line in ours) for key in ours[-1] if key.startswith("time/")}
    return BenchResult(
        name="step",
        value=seconds,
        unit="s",
        ratio=seconds / sum(parts.values()),
        samples=tuple(line["time/step_s"] for line in ours),
        extra={**{f"raw_{name}_s": value for name, value in parts.items()}, **laps},
    )


def _plan(folder: Path) -> Recipe:
    return recipe(folder, name="step", steps=STEPS, warm_start=False, evaluate=False)


def _model(folder: Path) -> str:
    """The model of the run, made before it, so that both sides have the same."""
    plan = _plan(folder)
    return prepare_model(plan.model, every_source(plan.stage_list), folder / "model", plan.seed)


def _ours(folder: Path) -> list[dict[str, float]]:
    """Metric lines of a run's steps after the first few."""
    plan = _plan(folder)
    run_folder = RunFolder.create(folder / "step", plan.yaml())
    asyncio.run(train(plan, folder=run_folder, progress=SilentProgress()))
    lines = [json.loads(line) for line in (folder / "step" / "metrics.jsonl").read_text().splitlines()]
    return lines[WARM_UP:]


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
    engine = raw_engine(model)
    try:
        prompts, _ = draw_prompts(model, LOADS["short"])
        seconds: list[float] = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            await raw_round(engine, prompts, LOADS["short"])
            seconds.append(time.perf_counter() - began)
        return seconds[1:]
    finally:
        await asyncio.to_thread(engine.shutdown)


def _padded_step(net: Any) -> Callable[[], object]:
    """Forward, loss on the completions, backward, clip, AdamW: 256 rows of prompt and completion, all of one length."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    ids = torch.randint(3, net.config.vocab_size, (ROLLOUTS, PROMPT_TOKENS + NEW_TOKENS))
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
