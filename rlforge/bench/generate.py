"""`generate`: tokens a second through the whole rollout path on Ray, against a bare `AsyncLLM` with the same engine.

The raw loop stands in `raw_round`. Both play in turn in this process, so that noise of the machine hits both.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlforge.bench.learn import make_model
from rlforge.bench.runner import BenchResult
from rlforge.cluster.config import ClusterConfig
from rlforge.cluster.on_ray import OnRay
from rlforge.cluster.specs import GeneratorSpec, WorkerSpec
from rlforge.generators.vllm import VLLMGenerator, quiet_vllm
from rlforge.loops.collect import Collector
from rlforge.orchestrators.single_turn import SingleTurn
from rlforge.tokens.renderer import ChatRenderer
from rlforge.types import GroupRequest, Message, Metrics, Reward, Rollout, Sampling, Task

REPEATS = 9
CONTEXT = 512
KV_CACHE_GB = 0.5
ENGINE = VLLMGenerator.Config(context=CONTEXT, kv_cache_gb=KV_CACHE_GB, threads=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One shape of work."""

    prompts: int
    completions: int
    """Per prompt."""
    max_new_tokens: int


LOADS = {
    "short": Load(prompts=32, completions=8, max_new_tokens=8),
    "long": Load(prompts=64, completions=1, max_new_tokens=100),
}


class Unjudged:
    """A router that rewards everything with 0: this bench is about generating."""

    async def start(self) -> None:
        """Nothing to start."""

    async def reward(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """Zero for each."""
        return [Reward(value=0.0) for _ in rollouts]

    async def metrics(self) -> Metrics:
        """Nothing to count."""
        return {}

    async def close(self) -> None:
        """Nothing to end."""


def run() -> BenchResult:
    """Both loads; the worse ratio counts."""
    return asyncio.run(_run())


async def _run() -> BenchResult:
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder)
        samples = await _alternate(model)
    rates = {side: {name: statistics.median(found) for name, found in loads.items()} for side, loads in samples.items()}
    ratios = {name: rates["ours"][name] / rates["raw"][name] for name in LOADS}
    worst = min(ratios, key=lambda name: ratios[name])
    extra: dict[str, Any] = {"load": worst} | {f"{name}_ratio": ratio for name, ratio in ratios.items()}
    extra |= {f"{name}_{side}_tokens_per_s": rates[side][name] for name in LOADS for side in rates}
    return BenchResult(
        name="generate",
        value=rates["ours"][worst],
        unit="tokens/s",
        ratio=ratios[worst],
        samples=tuple(samples["ours"][worst]),
        extra=extra,
    )


async def _alternate(model: str) -> dict[str, dict[str, list[float]]]:
    """Tokens a second of every round but the first, by side and load."""
    raw, cluster = raw_engine(model), OnRay(ClusterConfig(), run_id="bench-generate")
    try:
        await cluster.start()
        collector = await rollout_path(cluster, model)
        prompts = {name: draw_prompts(model, load) for name, load in LOADS.items()}
        sides: dict[str, Callable[[str], Awaitable[int]]] = {
            "raw": lambda name: raw_round(raw, prompts[name][0], LOADS[name]),
            "ours": lambda name: path_round(collector, prompts[name][1], LOADS[name]),
        }
        gc.collect()
        gc.freeze()  # both sides run through this process, which holds vLLM and torch besides what a driver holds
        samples: dict[str, dict[str, list[float]]] = {side: {name: [] for name in LOADS} for side in sides}
        for _ in range(REPEATS + 1):
            for side, play in sides.items():
                for name in LOADS:
                    samples[side][name].append(await _rate(play, name))
        return {side: {name: rates[1:] for name, rates in loads.items()} for side, loads in samples.items()}
    finally:
        await cluster.close()
        await end_raw_engine(raw)


async def _rate(play: Callable[[str], Awaitable[int]], name: str) -> float:
    began = time.perf_counter()
    tokens = await play(name)
    return tokens / (time.perf_counter() - began)


# --- the raw part ------------------------------------------------------------------------------------------------


def raw_engine(model: str, *, threads: int = ENGINE.threads, context: int = CONTEXT) -> Any:
    """`AsyncLLM` with the settings, the executor and the threads that our generator gives it on a CPU.

    But for one: the raw engine keeps vLLM's chunked prefill, which ours has to do without for its seeded requests.
    """
    quiet_vllm("error")
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from rlforge.generators.vllm_engine import CPU_BLOCK_TOKENS, ONE_PROCESS, environment, spawn_variables

    arguments = AsyncEngineArgs(
        model=model,
        dtype="float32",
        max_model_len=context,
        max_num_seqs=ENGINE.max_sequences,
        max_num_batched_tokens=max(ENGINE.prefill_tokens, context),
        block_size=CPU_BLOCK_TOKENS,
        kv_cache_memory_bytes=int(KV_CACHE_GB * 2**30),
        distributed_executor_backend=ONE_PROCESS,
        enforce_eager=True,
        enable_prefix_caching=ENGINE.prefix_caching,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )
    with environment(spawn_variables(threads)):
        return AsyncLLM.from_engine_args(arguments)


async def end_raw_engine(engine: Any) -> None:
    """Shut down; its reader first, or it would report the end as a failure, on standard output."""
    if engine.output_handler is not None:
        engine.output_handler.cancel()
    await asyncio.to_thread(engine.shutdown)


async def raw_round(engine: Any, prompts: list[tuple[int, ...]], load: Load) -> int:
    """All prompts at once, `n` completions each; returns the tokens sampled."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = SamplingParams(
        n=load.completions,
        max_tokens=load.max_new_tokens,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )

    async def complete(prompt: tuple[int, ...]) -> int:
        tokens = 0
        async for output in engine.generate({"prompt_token_ids": list(prompt)}, sampling, str(random.random())):
            tokens += sum(len(completion.token_ids) for completion in output.outputs)
        return tokens

    return sum(await asyncio.gather(*map(complete, prompts)))


# --- the rollout path --------------------------------------------------------------------------------------------


async def rollout_path(cluster: OnRay, model: str) -> Collector:
    """Generator and rollout worker in actors of their own, as in a run."""
    spec = GeneratorSpec(config=ENGINE, model=model, seed=0, run_id="bench-generate")
    generators = await cluster.generators({"policy": [spec]})
    return await cluster.collector(
        WorkerSpec(orchestrator=SingleTurn.Config.parse({}), model=model), generators, Unjudged()
    )


async def path_round(collector: Collector, tasks: list[Task], load: Load) -> int:
    """All tasks as groups; returns the tokens sampled."""
    sampling = Sampling(max_new_tokens=load.max_new_tokens)
    seed = random.randrange(2**31)
    requests = [
        GroupRequest(task=task, group=task.id, size=load.completions, sampling=sampling, seed=seed) for task in tasks
    ]
    groups = await collector.collect(requests)
    return sum(len(turn.completion.token_ids) for group in groups for r in group.rollouts for turn in r.turns)


def draw_prompts(model: str, load: Load) -> tuple[list[tuple[int, ...]], list[Task]]:
    """Two-digit additions, as token ids for the raw loop and as tasks for ours."""
    draw, renderer = random.Random(0), ChatRenderer.from_folder(model)
    questions = [f"{draw.randrange(10, 100)}+{draw.randrange(10, 100)}=" for _ in range(load.prompts)]
    tasks = [Task(id=f"task/{i}", messages=(Message.of("user", text),)) for i, text in enumerate(questions)]
    return [renderer.prompt(task.messages) for task in tasks], tasks
