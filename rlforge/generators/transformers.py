"""Hugging Face transformers as a generator: exact, portable, slow. The reference that vLLM is measured against."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rlforge.deadlines import deadline
from rlforge.errors import ActorDied, ExtensionError, SetupError, attribute
from rlforge.generators.admission import Fence, admit
from rlforge.generators.config import GeneratorConfig
from rlforge.generators.counters import Counters
from rlforge.model_folder import is_model_folder
from rlforge.types import Completion, GenerateRequest, LoadReport, Manifest, Metrics

if TYPE_CHECKING:
    from rlforge.generators.transformers_model import Model, Row


class TransformersGenerator:
    """Samples batches of prompts of equal length, so that no row is padded and none changes another's numbers.

    Every request has its own random stream. A `load` happens between two tokens; rows in flight go on with the keys
    and values they have, and each token keeps the version that sampled it. Logprobs as in `VLLMGenerator`.
    """

    class Config(GeneratorConfig):
        """A transformers model in this process."""

        type: str = "transformers"
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Type of weights and activations; `auto` takes the model folder's own."""
        device: str = "auto"
        """Device by torch's name; `auto` is the first GPU where there is one, else the CPU."""
        max_sequences: int = Field(default=64, ge=1)
        """Most completions computed at once."""

    def __init__(self, config: Config, *, model: str, seed: int, run_id: str) -> None:
        self._config = config
        self._folder = model
        self._fence = Fence()
        self._counters = Counters()
        self._model: Model | None = None
        self._turn = asyncio.Lock()  # a forward pass or a load, one at a time
        self._waiting: dict[int, list[Row]] = defaultdict(list)
        self._sampler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the model. Raises SetupError when transformers or the folder is missing."""
        if not is_model_folder(self._folder):
            raise SetupError(f"loading a model from '{self._folder}': no config.json there; give a Hugging Face folder")
        try:
            from rlforge.generators.transformers_model import Model
        except ImportError as error:
            raise SetupError(f"transformers cannot be imported ({error}); `make setup` installs it") from error
        async with deadline(self._config.start_deadline_s, f"transformers to load {self._folder}"):
            self._model = await asyncio.to_thread(Model, self._config, self._folder)

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion; cancelling the call drops its row at the next token."""
        model = self._ready()
        admit(request, model.context)
        waiting_for = f"a completion of a {len(request.prompt_ids)}-token prompt"
        with self._counters.request():
            async with deadline(self._config.generate_deadline_s, waiting_for):
                await self._fence.enter()
                completion = await self._queue(model, request)
        self._counters.finished(len(request.prompt_ids), completion)
        return completion

    async def load(self, manifest: Manifest) -> LoadReport:
        """Prove the published bytes, then copy them in between two tokens. Raises WeightSyncError on a mismatch."""
        model = self._ready()
        waiting_for = f"transformers to load policy version {manifest.version}"
        async with self._fence.loading(manifest), deadline(self._config.load_deadline_s, waiting_for), self._turn:
            began = perf_counter()
            version, checksum = await asyncio.to_thread(model.load, manifest)
            seconds = perf_counter() - began
            report = LoadReport(version=version, checksum=checksum, pause_s=seconds, load_s=seconds)
            self._fence.settle(manifest, [report])
        self._counters.add("loads", 1)
        self._counters.add("pause_s", seconds)
        return report

    async def metrics(self) -> Metrics:
        """Totals since the start."""
        return self._counters.read()

    async def close(self) -> None:
        """Drop the model; requests in flight are cancelled."""
        self._model = None
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.wait([self._sampler])
        for rows in self._waiting.values():
            for row in rows:
                row.future.cancel()
        self._waiting.clear()

    def _queue(self, model: Model, request: GenerateRequest) -> asyncio.Future[Completion]:
        row = model.row(request)
        self._waiting[len(request.prompt_ids)].append(row)
        if self._sampler is None or self._sampler.done():
            self._sampler = asyncio.create_task(self._sample(model))
        return row.future

    async def _sample(self, model: Model) -> None:
        """Serve what waits, the largest set of equal prompt lengths first, until nothing does."""
        await asyncio.sleep(0)  # let requests that were made together arrive together
        while any(self._waiting.values()):
            length = max(self._waiting, key=lambda key: len(self._waiting[key]))
            rows = self._waiting.pop(length)
            rows, rest = rows[: self._config.max_sequences], rows[self._config.max_sequences :]
            if rest:
                self._waiting[length] = rest
            try:
                await self._finish(model, rows)
            except BaseException as error:
                _fail(rows, error)
                raise

    async def _finish(self, model: Model, rows: list[Row]) -> None:
        batch = model.batch(rows)
        while batch.rows:
            async with self._turn:
                await asyncio.to_thread(batch.step, self._fence.version)
            batch.settle()

    def _ready(self) -> Model:
        if self._model is None:
            raise ActorDied("this transformers generator is not running: start() was not called, or close() was")
        return self._model


def _fail(rows: list[Row], error: BaseException) -> None:
    for row in rows:
        if row.future.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            row.future.cancel()
        else:
            row.future.set_exception(ExtensionError(attribute(error, "transformers", "sampling")))
