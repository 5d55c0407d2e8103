"""`sync`: seconds from the end of an optimizer step to generators that serve the new version, and the pause they make.

`ratio` compares with copying the same weights once through shared memory, the least that any channel has to do.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time

import torch
from transformers import AutoModelForCausalLM

from rlforge.bench.learn import make_model
from rlforge.bench.runner import BenchResult
from rlforge.generators.vllm import VLLMGenerator
from rlforge.types import GenerateRequest, Sampling
from rlforge.weights.shared_memory import SharedMemoryChannel

REPEATS = 20
RUNNING = 64
"""Requests in flight during each update."""


def run() -> BenchResult:
    """Publish and load again and again while requests run."""
    return asyncio.run(_run())


async def _run() -> BenchResult:
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder)
        weights: dict[str, torch.Tensor] = dict(AutoModelForCausalLM.from_pretrained(model).state_dict())
        generator = VLLMGenerator(
            VLLMGenerator.Config(context=512, kv_cache_gb=0.5), model=model, seed=0, run_id="bench-sync"
        )
        channel = SharedMemoryChannel(run_id="bench-sync")
        try:
            await generator.start()
            totals, pauses, loads = await _updates(generator, channel, weights)
        finally:
            await generator.close()
            channel.close()
    copy_s = _copy_s(weights)
    return BenchResult(
        name="sync",
        value=statistics.median(totals),
        unit="s",
        ratio=statistics.median(totals) / copy_s,
        samples=tuple(totals),
        extra={
            "pause_s": statistics.median(pauses),
            "worst_pause_s": max(pauses),
            "load_s": statistics.median(loads),
            "copy_s": copy_s,
            "bytes": sum(tensor.numel() * tensor.element_size() for tensor in weights.values()),
            "requests_in_flight": RUNNING,
        },
    )


async def _updates(
    generator: VLLMGenerator, channel: SharedMemoryChannel, weights: dict[str, torch.Tensor]
) -> tuple[list[float], list[float], list[float]]:
    """Seconds in all, standing still and reading, of each update but the first."""
    totals: list[float] = []
    pauses: list[float] = []
    loads: list[float] = []
    for version in range(1, REPEATS + 2):
        running = [asyncio.ensure_future(generator.generate(_request(seed))) for seed in range(RUNNING)]
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        manifest = channel.publish(dict(weights), version)
        report = await generator.load(manifest)
        totals.append(time.perf_counter() - began)
        pauses.append(report.pause_s)
        loads.append(report.load_s)
        await asyncio.gather(*running)
    return totals[1:], pauses[1:], loads[1:]


def _request(seed: int) -> GenerateRequest:
    return GenerateRequest(prompt_ids=tuple(range(5, 29)), sampling=Sampling(max_new_tokens=200), seed=seed)


def _copy_s(weights: dict[str, torch.Tensor]) -> float:
    """Median seconds of copying every tensor into memory that is there already."""
    targets = {name: torch.empty_like(tensor) for name, tensor in weights.items()}
    seconds: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for name, tensor in weights.items():
            targets[name].copy_(tensor)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
