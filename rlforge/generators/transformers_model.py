"""The half of the transformers generator that imports torch: a model, batches of rows, one token at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from rlforge.errors import WeightSyncError
from rlforge.types import Completion, FinishReason, GenerateRequest, Manifest, Sampling
from rlforge.weights.segment import read_segment

if TYPE_CHECKING:
    from rlforge.generators.transformers import TransformersGenerator


@dataclass(kw_only=True, slots=True, eq=False)
class Row:
    """One request on its way."""

    request: GenerateRequest
    future: asyncio.Future[Completion]
    stream: torch.Generator
    """Random numbers of this request alone."""
    limit: int
    """Most tokens to sample."""
    token_ids: list[int] = field(default_factory=lambda: list[int]())
    logprobs: list[float] = field(default_factory=lambda: list[float]())
    versions: list[int] = field(default_factory=lambda: list[int]())
    finish: FinishReason | None = None


class Model:
    """A causal language model and its tokenizer, from a folder."""

    def __init__(self, config: TransformersGenerator.Config, folder: str) -> None:
        device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = "auto" if config.dtype == "auto" else getattr(torch, config.dtype)
        disable_progress_bar()  # written across what the user asked for
        self.module: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.module.to(device).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.context = config.context or int(self.module.config.max_position_embeddings)
        self.device = torch.device(device)
        self.end_ids = _end_ids(self.module, self.tokenizer)

    def row(self, request: GenerateRequest) -> Row:
        """A request, ready to be sampled for."""
        return Row(
            request=request,
            future=asyncio.get_running_loop().create_future(),
            stream=torch.Generator().manual_seed(request.seed),
            limit=min(request.sampling.max_new_tokens, self.context - len(request.prompt_ids)),
        )

    def batch(self, rows: list[Row]) -> Batch:
        """Rows of one prompt length, to be computed together."""
        return Batch(self, rows)

    def load(self, manifest: Manifest) -> tuple[int, str]:
        """Copy a published version in; returns the version and checksum read. Nothing is copied on a mismatch."""
        segment = read_segment(Path(manifest.location))
        if (segment.version, segment.checksum) == (manifest.version, manifest.checksum):
            state: dict[str, torch.Tensor] = self.module.state_dict()
            unknown = sorted(set(segment.tensors) - set(state))
            missing = _missing(state, segment.tensors)
            if missing or unknown:
                raise WeightSyncError(
                    f"loading policy version {manifest.version}: the published weights lack {missing[:5]} and have "
                    f"{unknown[:5]} besides; publish every parameter under its Hugging Face name"
                )
            self.module.load_state_dict(segment.tensors, strict=False)
        return segment.version, segment.checksum


class Batch:
    """Rows of equal prompt length with their keys and values."""

    def __init__(self, model: Model, rows: list[Row]) -> None:
        self.rows = rows
        self._model = model
        self._inputs = torch.tensor(
            [row.request.prompt_ids for row in rows], device=model.device
        )  # [B, prompt], then [B, 1]
        self._cache: Any = None

    @torch.inference_mode()
    def step(self, version: int) -> None:
        """Sample one token for every row."""
        output = self._model.module(
            input_ids=self._inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = output.past_key_values
        logits = output.logits[:, -1].float().cpu()  # [B, vocabulary]
        for row, row_logits in zip(self.rows, logits, strict=True):
            token, logprob = sample(row_logits, row.request.sampling, row.stream)
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.versions.append(version)
            row.finish = self._finish(row)
        self._inputs = torch.tensor([[row.token_ids[-1]] for row in self.rows], device=self._model.device)

    def settle(self) -> None:
        """Hand finished rows to their callers and go on with the rest; runs on the event loop, where futures live."""
        for row in self.rows:
            if row.finish is not None and not row.future.done():
                row.future.set_result(_completion(row, row.finish))
        going_on = [index for index, row in enumerate(self.rows) if not row.future.done()]
        if going_on and len(going_on) < len(self.rows):
            chosen = torch.tensor(going_on, device=self._model.device)
            self._cache.batch_select_indices(chosen)
            self._inputs = self._inputs[chosen]
        self.rows = [self.rows[index] for index in going_on]

    def _finish(self, row: Row) -> FinishReason | None:
        token = row.token_ids[-1]
        if token in self._model.end_ids or token in row.request.stop_ids or self._stopped(row):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(row.token_ids) >= row.limit else None

    def _stopped(self, row: Row) -> bool:
        stops = row.request.sampling.stop
        return bool(stops) and any(stop in self._model.tokenizer.decode(row.token_ids) for stop in stops)


def _missing(state: dict[str, torch.Tensor], loaded: dict[str, torch.Tensor]) -> list[str]:
    """Names left out, save those that share the memory of a loaded one (tied embeddings)."""
    filled = {tensor.data_ptr() for name, tensor in state.items() if name in loaded}
    return sorted(name for name, tensor in state.items() if name not in loaded and tensor.data_ptr() not in filled)


def sample(logits: torch.Tensor, sampling: Sampling, stream: torch.Generator) -> tuple[int, float]:
    """A token and its logprob from logits [vocabulary], float32.

    Temperature first, then top-k, then top-p among what is left; the logprob is that of the resulting distribution.
    Temperature 0 takes the largest logit and reports its logprob under the plain softmax.
    """
    if sampling.temperature == 0:
        logprobs = logits.log_softmax(-1)
        token = int(logits.argmax())
        return token, float(logprobs[token])
    logprobs = _keep_top(logits / sampling.temperature, sampling).log_softmax(-1)
    cumulative = logprobs.double().exp().cumsum(-1)
    point = torch.rand((), generator=stream, dtype=torch.float64) * cumulative[-1]
    token = int(torch.searchsorted(cumulative, point, right=True).clamp(max=logits.shape[-1] - 1))
    return token, float(logprobs[token])


def _keep_top(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits with everything outside top-k and top-p at minus infinity."""
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], -torch.inf)
    if sampling.top_p < 1:
        values, order = logits.sort(descending=True)
        before = values.softmax(-1).cumsum(-1) - values.softmax(-1)  # mass of the likelier ones
        logits = logits.masked_fill(
            torch.zeros_like(logits, dtype=torch.bool).scatter(0, order, before >= sampling.top_p), -torch.inf
        )
    return logits


def _completion(row: Row, finish: FinishReason) -> Completion:
    return Completion(
        token_ids=tuple(row.token_ids),
        logprobs=tuple(row.logprobs),
        policy_versions=tuple(row.versions),
        finish_reason=finish,
    )


def _end_ids(module: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion: those of the generation settings and the tokenizer's own."""
    configured = module.generation_config.eos_token_id
    ids: list[int | None] = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)
