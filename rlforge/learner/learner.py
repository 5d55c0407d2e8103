"""The torch learner: one rank that turns batches into new policy versions and knows no algorithm by name."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from rlforge.errors import LearnerError
from rlforge.interfaces import WeightChannel
from rlforge.learner.checkpoint import TrainerState, read_state, write_state
from rlforge.learner.config import LearnerConfig
from rlforge.learner.logprobs import token_logprobs
from rlforge.learner.loss import StepLoss, label
from rlforge.learner.model import copy_tokenizer, load_model, named_weights, save_model
from rlforge.learner.optimizer import build_optimizer, global_norm, gradients, update
from rlforge.learner.packing import Pack, Tokens, pack
from rlforge.learner.schedule import learning_rate, phase
from rlforge.types import Batch, Manifest, Metrics, Trajectory

Floats: TypeAlias = NDArray[np.float32]
Result = TypeVar("Result")


class TorchLearner:
    """Full fine-tuning of a causal language model in float32 (bfloat16 autocast on a GPU).

    Waits for nothing but its own compute, which runs on one thread of its own, so that the event loop stays responsive.
    """

    def __init__(
        self, config: LearnerConfig, *, model: str, seed: int, channel: WeightChannel | None, total_steps: int
    ) -> None:
        self._config = config
        self._source = model
        self._seed = seed
        self._channel = channel
        self._total_steps = total_steps
        self._device = _device(config)
        self._models: dict[str, PreTrainedModel] = {}
        self._steps = 0
        self._version = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learner", initializer=self._set_threads)

    async def start(self) -> None:
        """Load the model and make an optimizer for it."""
        await self._run(self._start)

    async def annotate(self, batch: Batch, needs: frozenset[str]) -> Batch:
        """Add reference logprobs (of the model this learner started from) where `needs` asks for them."""
        unknown = needs - {"reference_logprobs"}
        if unknown:
            raise LearnerError(f"this learner cannot annotate {', '.join(sorted(unknown))}: it has no critic")
        if not needs:
            return batch
        return await self._run(lambda: self._annotate(batch))

    async def step(self, batch: Batch) -> Metrics:
        """One optimizer step on the whole batch. A loss or gradient that is not finite raises and changes nothing."""
        return await self._run(lambda: self._step(batch))

    async def logprobs(self, batch: Batch) -> list[list[float]]:
        """Per-token logprobs [T] of each trajectory under the current weights; 0 at the first token."""
        arrays = await self._run(lambda: self._score("policy", batch.trajectories, everything=True))
        return [array.tolist() for array in arrays]

    async def publish(self, version: int) -> Manifest:
        """Offer the current weights on the weight channel as policy `version`."""
        return await self._run(lambda: self._publish(version))

    async def save(self, directory: str, *, model_only: bool = False) -> None:
        """Write a Hugging Face folder, and trainer state unless `model_only`."""
        await self._run(lambda: self._save(directory, model_only))

    async def restore(self, directory: str) -> None:
        """Take model, optimizer, schedule and random state from a saved folder, bit for bit."""
        await self._run(lambda: self._restore(directory))

    async def close(self) -> None:
        """Free model and thread, and what the last publish holds."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        self._models.clear()
        if self._channel is not None:
            self._channel.close()

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _set_threads(self) -> None:
        if self._config.threads is not None:
            torch.set_num_threads(self._config.threads)

    def _start(self) -> None:
        torch.manual_seed(self._seed)
        self._take(self._source)

    def _take(self, source: str) -> None:
        model = load_model(source, self._device).train()
        if self._config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self._models["policy"] = model
        self._optimizer = build_optimizer(model, self._config)

    def _model(self, name: str) -> PreTrainedModel:
        if name == "reference" and name not in self._models:
            self._models[name] = load_model(self._source, self._device).eval().requires_grad_(False)
        if name not in self._models:
            raise LearnerError(f"the learner holds no model '{name}'; hint: await start() first")
        return self._models[name]

    def _annotate(self, batch: Batch) -> Batch:
        scores = self._score("reference", batch.trajectories, everything=False)
        pairs = zip(batch.trajectories, scores, strict=True)
        return replace(batch, trajectories=tuple(replace(t, reference_logprobs=score) for t, score in pairs))

    def _score(self, name: str, trajectories: tuple[Trajectory, ...], *, everything: bool) -> list[Floats]:
        """Logprobs [T] of each trajectory, 0 where not asked for."""
        tokens = Tokens(trajectories, everything)
        values = np.zeros(tokens.ids.shape[0], dtype=np.float32)
        model = self._model(name)
        with torch.no_grad():
            for part in pack(tokens, self._config.micro_batch_tokens):
                logprobs, _ = self._forward(model, part)
                values[tokens.wanted[part.wanted]] = logprobs.cpu().numpy()
        return np.split(values, np.cumsum(tokens.lengths)[:-1])

    def _forward(self, model: PreTrainedModel, part: Pack) -> tuple[Tensor, Tensor]:
        """Logprobs and entropy of the wanted tokens of a pack, [N] each."""
        device = self._device
        with self._precision():
            output = model.base_model(
                input_ids=part.input_ids.to(device),
                position_ids=part.position_ids.to(device),
                use_cache=False,
                packed_layout=part.layout.to(device),
            )
            hidden = cast(Tensor, output.last_hidden_state)[0].index_select(0, part.predictors.to(device))
            head = cast(Tensor, cast(torch.nn.Module, model.get_output_embeddings()).weight)
            return token_logprobs(
                hidden,
                head,
                part.targets.to(device),
                part.temperature.to(device),
                chunk=self._config.logprob_chunk_tokens,
            )

    def _precision(self) -> AbstractContextManager[object]:
        wanted = self._config.dtype
        if wanted == "bfloat16" or (wanted == "auto" and self._device.type == "cuda"):
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _step(self, batch: Batch) -> Metrics:
        started = time.perf_counter()
        self._model("policy")  # says so when there is none yet
        tokens = Tokens(batch.trajectories)
        loss = StepLoss(batch, tokens, self._device)
        packs = pack(tokens, self._config.micro_batch_tokens)
        self._optimizer.zero_grad(set_to_none=True)
        norm = self._accumulate(batch, loss, packs)
        lr = learning_rate(self._config.schedule, self._config.lr, self._steps, self._total_steps)
        update(self._optimizer, gradients(self._optimizer), norm, self._config.max_grad_norm, lr)
        self._optimizer.zero_grad(set_to_none=True)
        self._steps += 1
        seconds = time.perf_counter() - started
        total = int(tokens.lengths.sum())
        return {
            **loss.metrics(),
            "learner/grad_norm": norm,
            "learner/lr": lr,
            "learner/tokens": total,
            "learner/sampled_tokens": int(tokens.wanted.shape[0]),
            "learner/encoded_tokens": sum(part.input_ids.shape[1] for part in packs),
            "learner/step_s": seconds,
            "learner/tokens_per_s": total / seconds,
        }

    def _accumulate(self, batch: Batch, loss: StepLoss, packs: list[Pack]) -> float:
        """Gradients of all packs; their global norm. Raises LearnerError, gradients dropped, when one is not finite."""
        model = self._model("policy")
        try:
            for part in packs:
                loss.add(part, *self._forward(model, part)).backward()
            norm = global_norm(gradients(self._optimizer))
            if not math.isfinite(norm):
                raise LearnerError(f"the gradient is not finite (norm {norm}); {self._suspects(batch)}")
        except LearnerError as error:
            self._optimizer.zero_grad(set_to_none=True)
            raise LearnerError(f"step {self._steps}: {error}; the weights are unchanged") from error
        return norm

    def _suspects(self, batch: Batch) -> str:
        """Which rollouts alone give a gradient that is not finite: one backward pass each, after a failure only."""
        guilty: list[str] = []
        for number, trajectory in enumerate(batch.trajectories):
            alone = replace(batch, trajectories=(trajectory,))
            tokens = Tokens(alone.trajectories)
            self._optimizer.zero_grad(set_to_none=True)
            loss = StepLoss(alone, tokens, self._device)
            for part in pack(tokens, self._config.micro_batch_tokens):
                loss.add(part, *self._forward(self._model("policy"), part)).backward()
            if not math.isfinite(global_norm(gradients(self._optimizer))):
                guilty.append(label(trajectory, number))
        return f"it comes from {', '.join(guilty)}" if guilty else "no rollout alone causes it: the sum overflows"

    def _publish(self, version: int) -> Manifest:
        if self._channel is None:
            raise LearnerError(f"cannot publish policy version {version}: this learner was made without a channel")
        manifest = self._channel.publish(dict(named_weights(self._model("policy"))), version)
        self._version = version
        return manifest

    def _save(self, directory: str, model_only: bool) -> None:
        copy_tokenizer(self._source, directory)
        save_model(self._model("policy"), directory)
        if not model_only:
            write_state(directory, self._state(), self._optimizer, self._parameter_names())

    def _restore(self, directory: str) -> None:
        self._take(directory)
        state = read_state(directory, self._optimizer, self._parameter_names())
        self._steps, self._version = state.step, state.policy_version

    def _state(self) -> TrainerState:
        return TrainerState(
            step=self._steps,
            total_steps=self._total_steps,
            phase=phase(self._config.schedule, self._steps, self._total_steps),
            policy_version=self._version,
            seed=self._seed,
        )

    def _parameter_names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self._model("policy").named_parameters()}


def _device(config: LearnerConfig) -> torch.device:
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
