"""vLLM as a generator: continuous batching over all rollouts, on CPU and GPU from the same code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, ExtensionError, SetupError, WeightSyncError, boundary
from rlforge.generators.admission import Fence, admit
from rlforge.generators.config import GeneratorConfig
from rlforge.generators.counters import Counters
from rlforge.model_folder import is_model_folder
from rlforge.types import Completion, GenerateRequest, LoadReport, Manifest, Metrics

if TYPE_CHECKING:
    from rlforge.generators.vllm_engine import Engine


class VLLMGenerator:
    """Generator around vLLM's `AsyncLLM`, which runs in processes of its own that die with this one.

    Logprobs are those of the sampling distribution (`processed_logprobs`: temperature, top-k and top-p applied); at
    temperature 0 they are those of the plain softmax, at which the greedy token was taken. Each request carries its
    own seed, so its tokens do not depend on what runs beside it. Requests in flight across a `load` go on with the
    keys and values they have; requests that begin after it never see a key or value of an older version.
    """

    class Config(GeneratorConfig):
        """A vLLM engine."""

        type: str = "vllm"
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Type of weights and activations; `auto` takes the model folder's own."""
        max_sequences: int = Field(default=256, ge=1)
        """Most completions computed at once; the rest wait in the engine's queue."""
        prefill_tokens: int = Field(default=8192, ge=1)
        """Most tokens of one forward pass; raised to `context` (prompts are not split on CPU) and `max_sequences`."""
        kv_cache_gb: float | None = Field(default=None, gt=0)
        """Memory for keys and values, in GiB; unset: 1 on CPU, what `gpu_memory_utilization` leaves on GPU."""
        gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)
        """Share of a GPU's memory the engine may take; lower it where the learner shares the GPU."""
        tensor_parallel: int = Field(default=1, ge=1)
        """GPUs that share one copy of the model."""
        eager: bool | None = None
        """Skip compilation and CUDA graphs: unset means yes on CPU, where starting is dear, and no on GPU."""
        prefix_caching: bool = True
        """Reuse keys and values of shared prompts (never across policy versions)."""
        engine_log: Literal["error", "warning", "info", "debug"] = "error"
        """How much vLLM writes to standard error."""

    def __init__(self, config: Config, *, model: str, seed: int, run_id: str) -> None:
        self._config = config
        self._model = model
        self._seed = seed
        self._run_id = run_id
        self._fence = Fence()
        self._counters = Counters()
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Start the engine. Raises SetupError when vLLM is missing or cannot start, DeadlineExceeded when it hangs."""
        if not is_model_folder(self._model):
            raise SetupError(
                f"starting vLLM on '{self._model}': no config.json there; a model is a Hugging Face folder"
            )
        quiet_vllm(self._config.engine_log)
        try:
            from rlforge.generators.vllm_engine import Engine
        except ImportError as error:
            raise SetupError(
                f"vLLM cannot be imported ({error}); `make setup` (EXTRA=gpu for a CUDA machine) installs it; use "
                "generator 'transformers' where it has no wheel"
            ) from error
        engine = Engine(self._config, self._model, self._seed)
        await engine.start()
        self._engine = engine

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion; cancelling the call frees the request in the engine."""
        engine = self._ready()
        admit(request, engine.context)
        waiting_for = f"a completion of a {len(request.prompt_ids)}-token prompt"
        with self._counters.request():
            async with deadline(self._config.generate_deadline_s, waiting_for):
                await self._fence.enter()
                completion, prefix_hits = await engine.complete(request, self._fence.version)
            if completion is None:  # the engine gave up our request: only a failed load does that
                self._fence.check()
                raise ActorDied(f"vLLM aborted {waiting_for}: the generator was closed")
        self._counters.finished(len(request.prompt_ids), completion, prefix_hits)
        return completion

    async def load(self, manifest: Manifest) -> LoadReport:
        """Pause, read, prove, swap, resume. On a mismatch the old weights stay, and nothing more is answered."""
        engine = self._ready()
        async with self._fence.loading(manifest):
            try:
                async with deadline(self._config.load_deadline_s, f"vLLM to load policy version {manifest.version}"):
                    with boundary("vLLM", f"loading policy version {manifest.version}"):
                        reports = await engine.load(manifest)
                self._fence.settle(manifest, reports)
            except BaseException as error:
                await engine.abort_all()
                if isinstance(error, ExtensionError):
                    raise WeightSyncError(f"{error}; the worker's own words are on standard error") from error
                raise
            finally:
                await engine.resume()
        slowest = max(reports, key=lambda report: report.pause_s)
        self._counters.add("loads", 1)
        self._counters.add("pause_s", slowest.pause_s)
        return slowest

    async def metrics(self) -> Metrics:
        """Totals since the start."""
        return self._counters.read()

    def check(self) -> None:
        """Raise ActorDied when the engine is dead: the heartbeat asks, so that it is known while nobody generates."""
        if self._engine is not None:
            self._engine.check()

    async def close(self) -> None:
        """End the engine and whatever it started."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    def _ready(self) -> Engine:
        if self._engine is None:
            raise ActorDied("this vLLM generator is not running: start() was not called, or close() was")
        self._engine.check()
        return self._engine


def quiet_vllm(engine_log: str) -> None:
    """vLLM reads these while it is imported; what the user set stays."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", engine_log.upper())
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
