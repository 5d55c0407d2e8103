"""`learn`: tokens a second of the learner against bare torch loops on the same sequences with the same AdamW.

Two raw loops stand here to be read: padded batches sorted by length, which is what one writes first, and the learner's
own packs with one attention call per sequence, which is what one writes next.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM

from rlforge.bench.runner import BenchResult
from rlforge.learner.config import LearnerConfig, ModelInitConfig
from rlforge.learner.learner import TorchLearner
from rlforge.learner.model import initialize_model
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import Batch, Objective, Trajectory

SEQUENCES = 128
SHORTEST, MEDIAN, LONGEST, SIGMA = 16, 90, 512, 0.8
REPEATS = 7
PADDED_PLACES = 2048  # the padded loop's best of 2,048 … 16,384: larger micro-batches pad more
ALPHABET = "".join(chr(code) for code in range(33, 127))


def run() -> BenchResult:
    """The learner against both raw loops, round by round in turn, so that noise of the machine hits all three."""
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder)
        sequences = draw_sequences()
        config = LearnerConfig(device="cpu")
        contestants: dict[str, Callable[[], None]] = {
            "learner": _learner(model, config, sequences),
            "padded": _raw(model, config, "sdpa", padded_batches(sequences, PADDED_PLACES)),
            "packed": _raw(model, config, "bench_sequences", packed_batches(sequences, config.micro_batch_tokens)),
        }
        seconds = alternate(contestants, REPEATS)
    tokens = sum(len(sequence) for sequence in sequences)
    rate = {name: tokens / statistics.median(times) for name, times in seconds.items()}
    return BenchResult(
        name="learn",
        value=rate["learner"],
        unit="tokens/s",
        ratio=rate["learner"] / rate["padded"],
        samples=tuple(tokens / second for second in seconds["learner"]),
        extra={
            "padded_tokens_per_s": rate["padded"],
            "packed_tokens_per_s": rate["packed"],
            "ratio_to_packed": rate["learner"] / rate["packed"],
            "tokens": tokens,
            "threads": torch.get_num_threads(),
        },
    )


def make_model(folder: str) -> str:
    """A Qwen3 of the default shape over a character vocabulary; returns its folder."""
    build_tokenizer(TokenizerConfig(alphabet=ALPHABET), [], f"{folder}/tokenizer", LONGEST)
    initialize_model(ModelInitConfig(), tokenizer_folder=f"{folder}/tokenizer", folder=f"{folder}/model", seed=0)
    return f"{folder}/model"


def draw_sequences() -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Random sequences with log-normal lengths."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(np.log(MEDIAN), SIGMA, SEQUENCES)), SHORTEST, LONGEST).astype(int)
    return [rng.integers(3, len(ALPHABET), length) for length in lengths]


def alternate(contestants: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant's rounds, played in turn after one round of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats + 1):
        for name, play in contestants.items():
            started = time.perf_counter()
            play()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def padded_batches(sequences: list[Any], budget: int) -> list[dict[str, Tensor]]:
    """Sorted by length, padded on the right to the longest of each micro-batch of at most `budget` places."""
    batches: list[list[Any]] = [[]]
    for sequence in sorted(sequences, key=len, reverse=True):
        if batches[-1] and (len(batches[-1]) + 1) * len(batches[-1][0]) > budget:
            batches.append([])
        batches[-1].append(sequence)
    return [_pad(batch) for batch in batches]


def _pad(batch: list[Any]) -> dict[str, Tensor]:
    ids = torch.zeros(len(batch), len(batch[0]), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
        labels[row, : len(sequence) - 1] = torch.from_numpy(sequence[1:])
    return {"input_ids": ids, "labels": labels}  # causal attention never looks at padding on the right


def packed_batches(sequences: list[Any], budget: int) -> list[dict[str, Any]]:
    """Sorted by length, end to end in micro-batches of at most `budget` tokens."""
    batches: list[list[Any]] = [[]]
    for sequence in sorted(sequences, key=len, reverse=True):
        if batches[-1] and sum(map(len, batches[-1])) + len(sequence) > budget:
            batches.append([])
        batches[-1].append(sequence)
    return [_concatenate(batch) for batch in batches]


def _concatenate(batch: list[Any]) -> dict[str, Any]:
    ids = torch.from_numpy(np.concatenate(batch))[None]
    labels = torch.from_numpy(np.concatenate([np.append(sequence[1:], -100) for sequence in batch]))[None]
    positions = torch.cat([torch.arange(len(sequence)) for sequence in batch])[None]
    lengths = [len(sequence) for sequence in batch]
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "lengths": lengths}


def _attend_by_sequence(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *, scaling: float, **rest: Any
) -> tuple[Tensor, None]:
    """Causal attention of one packed row, sequence by sequence."""
    parts = zip(*(states.split(rest["lengths"], dim=2) for states in (query, key, value)), strict=True)
    outputs = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in parts
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register("bench_sequences", _attend_by_sequence)


def _raw(model: str, config: LearnerConfig, attention: str, batches: list[dict[str, Any]]) -> Callable[[], None]:
    """The bare loop: forward, cross-entropy over all tokens of the step, backward, clip, AdamW."""
    net: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation=attention)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, betas=config.betas, weight_decay=0.0, fused=True)
    count = sum(int((batch["labels"] >= 0).sum()) for batch in batches)

    def step() -> None:
        optimizer.zero_grad()
        for batch in batches:
            labels = batch["labels"]
            logits = net(**{name: value for name, value in batch.items() if name != "labels"}, use_cache=False).logits
            loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / count
            loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.max_grad_norm)
        optimizer.step()

    return step


def _learner(model: str, config: LearnerConfig, sequences: list[Any]) -> Callable[[], None]:
    """The same step through the learner, from trajectories to metrics."""
    trajectories = tuple(
        Trajectory(token_ids=ids, sampled=np.arange(len(ids)) > 0, objective="imitate") for ids in sequences
    )
    batch = Batch(trajectories=trajectories, objectives={"imitate": Objective(loss="cross_entropy")})
    learner = TorchLearner(config, model=model, seed=0, channel=None, total_steps=100)
    asyncio.run(learner.start())
    return lambda: asyncio.run(_step(learner, batch))


async def _step(learner: TorchLearner, batch: Batch) -> None:
    await learner.step(batch)
