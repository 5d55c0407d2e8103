"""A generator without a model: its replies are a pure function of prompt and seed. For tests and dry runs."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import Field

from rlforge.deadlines import deadline
from rlforge.errors import ActorDied
from rlforge.generators.admission import Fence, admit
from rlforge.generators.config import GeneratorConfig
from rlforge.generators.counters import Counters
from rlforge.model_folder import model_config
from rlforge.seeds import derive_seed
from rlforge.types import Completion, FinishReason, GenerateRequest, LoadReport, Manifest, Metrics
from rlforge.weights.proof import prove


class ScriptedGenerator:
    """Answers as a uniform policy would, or from a list; weights are proven as everywhere, then ignored."""

    class Config(GeneratorConfig):
        """Scripted replies."""

        type: str = "scripted"
        replies: tuple[tuple[int, ...], ...] = ()
        """Token ids of possible replies, one chosen by prompt and seed; empty: random tokens up to `max_new_tokens`."""
        latency_s: float = Field(default=0.0, ge=0)
        """Seconds each completion takes."""

    def __init__(self, config: Config, *, model: str, seed: int, run_id: str) -> None:
        self._config = config
        self._model = model
        self._seed = seed
        self._fence = Fence()
        self._counters = Counters()
        self._open = False
        self._shape: dict[str, Any] = {}

    async def start(self) -> None:
        """Read vocabulary and context from the model folder, where there is one."""
        self._shape = model_config(self._model)
        self._open = True

    async def generate(self, request: GenerateRequest) -> Completion:
        """A reply after `latency_s`. Raises GenerationError when the prompt does not fit."""
        if not self._open:
            raise ActorDied("this scripted generator is not running: start() was not called, or close() was")
        admit(request, self._config.context or int(self._shape.get("max_position_embeddings", 4096)))
        with self._counters.request():
            async with deadline(self._config.generate_deadline_s, "a scripted completion"):
                await self._fence.enter()
                if self._config.latency_s:
                    await asyncio.sleep(self._config.latency_s)
        completion = self._reply(request)
        self._counters.finished(len(request.prompt_ids), completion)
        return completion

    async def load(self, manifest: Manifest) -> LoadReport:
        """Prove the published bytes and take their version. Raises WeightSyncError on a mismatch."""
        began = perf_counter()
        async with self._fence.loading(manifest):
            proof = await asyncio.to_thread(prove, Path(manifest.location))
            seconds = perf_counter() - began
            report = LoadReport(version=proof.version, checksum=proof.checksum, pause_s=0.0, load_s=seconds)
            self._fence.settle(manifest, [report])
        self._counters.add("loads", 1)
        return report

    async def metrics(self) -> Metrics:
        """Totals since the start."""
        return self._counters.read()

    async def close(self) -> None:
        """Nothing to end."""
        self._open = False

    def _drawn(self, request: GenerateRequest, vocabulary: int) -> tuple[int, ...]:
        """A whole reply, perhaps longer than it may be."""
        replies = self._config.replies
        if len(replies) == 1:
            return replies[0]
        draw = random.Random(derive_seed(request.seed, *request.prompt_ids))
        if replies:
            return draw.choice(replies)
        longest = request.sampling.max_new_tokens + 1
        return tuple(draw.randrange(vocabulary) for _ in range(draw.randint(1, longest)))

    def _reply(self, request: GenerateRequest) -> Completion:
        limit = request.sampling.max_new_tokens
        vocabulary = int(self._shape.get("vocab_size", 64))
        whole = self._drawn(request, vocabulary)
        if request.stop_ids:
            whole = _until(request.stop_ids, whole)
        ids = whole[:limit]
        return Completion(
            token_ids=ids,
            logprobs=(-math.log(vocabulary),) * len(ids),
            policy_versions=(self._fence.version,) * len(ids),
            finish_reason=FinishReason.LENGTH if len(whole) > limit else FinishReason.STOP,
        )


def _until(stop_ids: tuple[int, ...], ids: tuple[int, ...]) -> tuple[int, ...]:
    """Up to and including the first token that ends a reply."""
    return ids[: next((place + 1 for place, token in enumerate(ids) if token in stop_ids), len(ids))]
