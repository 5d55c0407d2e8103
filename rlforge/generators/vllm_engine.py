"""The half of the vLLM generator that imports vLLM: start, requests, in-flight updates, clean end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import psutil
from vllm import SamplingParams
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs.engine import tokens_input
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, ConfigError, DeadlineExceeded, SetupError, WeightSyncError
from rlforge.model_folder import model_config, positions
from rlforge.processes import OWNER_VARIABLE, descendants, end_processes, mapped_segments, remove_segments
from rlforge.types import Completion, FinishReason, GenerateRequest, LoadReport, Manifest, Sampling
from rlforge.weights.vllm_plugin import BACKEND

if TYPE_CHECKING:
    from rlforge.generators.vllm import VLLMGenerator

_GIB = 2**30
CPU_BLOCK_TOKENS = 32
"""Tokens whose keys and values the prefix cache keeps or drops together; the CPU kernels want a multiple of 32."""
# vLLM would put the computation on CPU into one more process, to set its threads there, and that one spins on shared
# memory for a second after each step: a whole core that the learner wants. Ours inherits its threads instead.
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""Name of vLLM's executor that computes in the engine's own process."""

_starting = threading.Lock()  # the environment of a start belongs to the whole process


class Engine:
    """One `AsyncLLM` and the processes it started."""

    def __init__(self, config: VLLMGenerator.Config, model: str, seed: int) -> None:
        self._config = config
        self._model = model
        self._seed = seed
        self._llm: AsyncLLM | None = None
        self._processes: list[psutil.Process] = []
        self._ids = count()
        self._running: set[str] = set()
        self.context = 0

    async def start(self) -> None:
        """Open the engine and answer a first request, so that nobody else pays for the warm-up."""
        before = set(multiprocessing.active_children())
        try:
            async with deadline(self._config.start_deadline_s, f"vLLM to start on {self._model}"):
                self._llm = await asyncio.to_thread(self._open)
                await self._warm_up(self._llm)
        except (RuntimeError, ValueError, OSError) as error:
            await self._end(before)
            raise SetupError(f"starting vLLM on {self._model}: {error}; its own log is on standard error") from error
        except BaseException:
            await self._end(before)
            raise
        self._processes = _started_since(before)

    async def complete(self, request: GenerateRequest, version: int) -> tuple[Completion | None, int]:
        """Completion and prompt tokens found in the prefix cache; None when the engine aborted the request."""
        llm, name = self._open_llm(), str(next(self._ids))
        # The salt keeps a policy version's keys and values to that version.
        prompt = tokens_input(list(request.prompt_ids), cache_salt=f"policy-{version}")
        self._running.add(name)
        try:
            with self._alive("generating"):
                queue = await llm.add_request(name, prompt, self._parameters(request))
                output = await queue.get()
        except asyncio.CancelledError:
            await asyncio.shield(llm.abort(name))
            raise
        finally:
            self._running.discard(name)
        assert isinstance(output, RequestOutput)
        return _completion(output.outputs[0]), output.num_cached_tokens or 0

    async def load(self, manifest: Manifest) -> list[LoadReport]:
        """Pause, swap weights; one report per worker of what it read. The caller resumes."""
        llm, paused = self._open_llm(), perf_counter()
        update = {"location": manifest.location, "version": manifest.version, "checksum": manifest.checksum}
        with self._alive(f"loading policy version {manifest.version}"):
            # `llm.pause_generation` is this call and a sleep of 20 ms that only tidies the order of outputs.
            await llm.engine_core.pause_scheduler_async(mode="keep", clear_cache=False)
            await llm.start_weight_update()
            await llm.update_weights(WeightTransferUpdateRequest(update_info=update))
            reports: list[dict[str, Any]] = await llm.collective_rpc("rlforge_weight_report")
            applied = all(report["applied"] for report in reports)
            await llm.finish_weight_update(str(manifest.version) if applied else None)
        _refuse_missing(manifest, reports)
        pause_s = perf_counter() - paused
        return [
            LoadReport(version=r["version"], checksum=r["checksum"], pause_s=pause_s, load_s=r["load_s"])
            for r in reports
        ]

    async def abort_all(self) -> None:
        """Give up every request in flight; their callers get None."""
        if self._running:
            with self._alive("giving up requests"):
                await self._open_llm().abort(list(self._running))

    async def resume(self) -> None:
        """Go on after a pause; harmless without one."""
        async with deadline(self._config.load_deadline_s, "vLLM to go on after a pause"):
            with self._alive("going on after a pause"):
                await self._open_llm().resume_generation()

    def check(self) -> None:
        """Raise ActorDied when the engine is dead."""
        if self._llm is not None and self._llm.errored:
            raise self._dead()

    @contextmanager
    def _alive(self, doing: str) -> Generator[None]:
        """Turn vLLM's news that its engine is dead into ours."""
        try:
            yield
        except EngineDeadError as error:
            raise self._dead(f" while {doing}") from error

    def _dead(self, when: str = "") -> ActorDied:
        return ActorDied(f"the vLLM engine of {self._model} died{when}; its last words are on standard error")

    async def close(self) -> None:
        """End the engine; what does not end in time is ended."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        segments = mapped_segments(self._processes)
        try:
            async with deadline(self._config.close_deadline_s, "vLLM to end"):
                if self._running:
                    await llm.abort(list(self._running))
                if llm.output_handler is not None:
                    llm.output_handler.cancel()  # or it would log the end as a failure
                await asyncio.to_thread(llm.shutdown, timeout=self._config.close_deadline_s / 2)
        except (DeadlineExceeded, EngineDeadError):
            pass  # whatever is left is ended below, by force
        await asyncio.to_thread(end_processes, self._processes)
        remove_segments(segments)

    async def _warm_up(self, llm: AsyncLLM) -> None:
        self.context = llm.model_config.max_model_len
        with self._alive("starting"):
            await llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info={}))
            await llm.update_weight_version("0")
        warm_up = Sampling(max_new_tokens=min(2, self.context - 1))
        await self.complete(GenerateRequest(prompt_ids=(0,), sampling=warm_up, seed=0), version=-1)

    def _open(self) -> AsyncLLM:
        with _starting, environment(spawn_variables(self._config.threads)):
            return AsyncLLM.from_engine_args(self._arguments())

    def _arguments(self) -> AsyncEngineArgs:
        config, on_cpu = self._config, current_platform.is_cpu()
        kv_cache_gb = config.kv_cache_gb or (1.0 if on_cpu else None)
        context = config.context or _context(self._model)
        return AsyncEngineArgs(
            model=self._model,
            dtype=cast(Any, _dtype(self._model) if config.dtype == "auto" else config.dtype),
            seed=self._seed,
            max_model_len=context,
            max_num_seqs=config.max_sequences,
            # On CPU a seeded request whose prompt is split over two passes would end the engine ("CPU Generator does
            # not use offset"): prompts go whole, and a burst beyond the budget waits its turn.
            enable_chunked_prefill=False if on_cpu else None,
            max_num_batched_tokens=max(config.prefill_tokens, context, config.max_sequences),
            # vLLM's own choice on CPU, 128, would compute up to 127 tokens of a conversation anew in every turn.
            block_size=CPU_BLOCK_TOKENS if on_cpu else None,
            kv_cache_memory_bytes=int(kv_cache_gb * _GIB) if kv_cache_gb else None,
            gpu_memory_utilization=config.gpu_memory_utilization,
            tensor_parallel_size=config.tensor_parallel,
            distributed_executor_backend=ONE_PROCESS if on_cpu and config.tensor_parallel == 1 else None,
            enforce_eager=on_cpu if config.eager is None else config.eager,
            enable_prefix_caching=config.prefix_caching,
            logprobs_mode="processed_logprobs",
            weight_transfer_config=WeightTransferConfig(backend=BACKEND),
            worker_extension_cls="rlforge.weights.vllm_worker.WeightReport",
            use_tqdm_on_load=False,
            disable_log_stats=True,
            enable_log_requests=False,
        )

    def _parameters(self, request: GenerateRequest) -> SamplingParams:
        room = self.context - len(request.prompt_ids)
        parameters = _template(request.sampling, request.stop_ids).clone()
        parameters.max_tokens = min(request.sampling.max_new_tokens, room)
        parameters.seed = request.seed
        return parameters

    def _open_llm(self) -> AsyncLLM:
        if self._llm is None:
            raise ActorDied("the vLLM engine is not running")
        return self._llm

    async def _end(self, before: set[Any]) -> None:
        """After a failed start: end what it started."""
        self._processes = _started_since(before)
        await self.close()
        await asyncio.to_thread(end_processes, self._processes)


def _refuse_missing(manifest: Manifest, reports: list[dict[str, Any]]) -> None:
    missing = sorted({name for report in reports for name in report["missing"]})
    if missing:
        raise WeightSyncError(
            f"loading policy version {manifest.version}: the published weights lack {', '.join(missing[:5])} "
            f"({len(missing)} parameters in all); publish every parameter under its Hugging Face name"
        )


def _started_since(before: set[Any]) -> list[psutil.Process]:
    children = set(multiprocessing.active_children()) - before
    return [process for child in children if child.pid for process in descendants(child.pid)]


def spawn_variables(threads: int) -> dict[str, str]:
    """What the processes of an engine need in their environment."""
    return {
        OWNER_VARIABLE: str(os.getpid()),
        "HF_HUB_OFFLINE": "1",  # a model is always a folder here
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound, two replicas would share the first core
    }


@contextmanager
def environment(variables: dict[str, str]) -> Generator[None]:
    """Set variables for the processes started in the body; take them back, and what vLLM sets (LD_PRELOAD) too."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@lru_cache(maxsize=64)
def _template(sampling: Sampling, stop_ids: tuple[int, ...]) -> SamplingParams:
    """Parameters of all requests that sample alike; building and checking them costs more than copying."""
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k or -1,
        stop=list(sampling.stop),
        stop_token_ids=list(stop_ids),
        skip_special_tokens=not sampling.stop,  # a stop string may be, or hold, a special token's text
        detokenize=bool(sampling.stop),  # stop strings are found in text
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _completion(output: CompletionOutput) -> Completion | None:
    """Our view of vLLM's output; None when aborted."""
    if output.finish_reason == "abort":
        return None
    if output.finish_reason not in ("stop", "length"):
        raise ActorDied(f"vLLM ended a completion with '{output.finish_reason}'; its log is on standard error")
    versions = [int(span.version) for span in output.weight_versions or () for _ in range(span.start, span.end)]
    logprobs: list[float] = list(getattr(output.logprobs, "logprobs", ()))
    return Completion(
        token_ids=tuple(output.token_ids),
        logprobs=tuple(logprobs),
        policy_versions=tuple(versions),
        finish_reason=FinishReason(output.finish_reason),
    )


def _dtype(model: str) -> str:
    """The type the folder's weights have: vLLM's own `auto` would turn float32 into 16 bits."""
    config = model_config(model)
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def _context(model: str) -> int:
    if said := positions(model):
        return said
    raise ConfigError(f"'{model}/config.json' does not say max_position_embeddings; set `context` of the generator")
