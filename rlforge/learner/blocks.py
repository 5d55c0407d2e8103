"""Which rows of a pack attend to which: blocks, and their buckets of similar shape.

A lone trajectory is one causal block. Members of a group read their shared prompt: short ones are put into one block
with it, long ones get a block each, so that no block is much larger than the attention it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from rlforge.learner.attention import Bucket, Gather, Layout

Ints: TypeAlias = NDArray[np.int64]

SMALL_BLOCK: Final = 128
"""Completions of a group share a block up to this many keys; beyond it masked-out products outweigh fewer calls."""
ALLOWED_WASTE: Final = 16_384
"""Query-key products a bucket may spend on padding before a bucket of its own is cheaper."""


@dataclass(frozen=True, slots=True)
class Family:
    """Rows that belong together: a prompt and the completions that read it; a lone trajectory is all prompt."""

    start: int
    prompt: int
    own_starts: Sequence[int]
    own: Sequence[int]
    """Encoded tokens of each completion beyond the prompt; may be 0."""


@dataclass(frozen=True, slots=True)
class Block:
    """One masked (or causal) square or oblong of attention."""

    queries: Ints  # [Lq] rows
    keys: Ints  # [Lk] rows
    query_segments: Ints | None = None  # [Lq] 0: prompt, 1…: completions. None: causal over one segment
    key_segments: Ints | None = None  # [Lk]


def reads(prompt: int, own: Sequence[int]) -> int:
    """How many blocks read the prompt's keys."""
    chunks = _chunks(prompt, own)
    return len(chunks) + (0 if chunks and _joins(prompt, own, chunks[0]) else 1)


def layout(families: Sequence[Family], rows: int) -> Layout:
    """Attention of a pack of `rows` tokens. Families whose prompt is read more often must come first in the pack."""
    blocks = [block for family in families for block in _blocks(family)]
    buckets = _buckets(blocks)
    queries = [_padded([block.queries for block in bucket]) for bucket in buckets]
    keys = [_padded([block.keys for block in bucket]) for bucket in buckets]
    query_places = np.concatenate([matrix.ravel() for matrix in queries])
    key_places = np.concatenate([matrix.ravel() for matrix in keys])
    shapes = [
        Bucket(len(bucket), q.shape[1], k.shape[1], _mask(bucket, q, k))
        for bucket, q, k in zip(buckets, queries, keys, strict=True)
    ]
    return Layout(
        _gather(query_places, rows), _gather(key_places, rows), tuple(shapes), _tensor(np.flatnonzero(query_places < 0))
    )


def _chunks(prompt: int, own: Sequence[int]) -> list[list[int]]:
    """Completions by the block they share; those without tokens of their own need none."""
    chunks: list[list[int]] = []
    used = SMALL_BLOCK
    for index, length in enumerate(own):
        if not length:
            continue
        if used + length > SMALL_BLOCK:
            chunks.append([])
            used = prompt
        chunks[-1].append(index)
        used += length
    return chunks


def _joins(prompt: int, own: Sequence[int], chunk: list[int]) -> bool:
    """Whether the prompt's own queries are computed in the first chunk's block."""
    return prompt + sum(own[index] for index in chunk) <= SMALL_BLOCK


def _blocks(family: Family) -> list[Block]:
    prompt = np.arange(family.start, family.start + family.prompt)
    chunks = _chunks(family.prompt, family.own)
    if not chunks:
        return [Block(prompt, prompt)]
    joins = _joins(family.prompt, family.own, chunks[0])
    blocks: list[Block] = [] if joins else [Block(prompt, prompt)]
    for number, chunk in enumerate(chunks):
        own = np.concatenate([np.arange(family.own_starts[i], family.own_starts[i] + family.own[i]) for i in chunk])
        segments = np.repeat(np.arange(1, len(chunk) + 1), [family.own[i] for i in chunk])
        keys = np.concatenate([prompt, own])
        key_segments = np.concatenate([np.zeros_like(prompt), segments])
        if joins and number == 0:
            blocks.append(Block(keys, keys, key_segments, key_segments))
        else:
            blocks.append(Block(own, keys, segments, key_segments))
    return blocks


def _buckets(blocks: list[Block]) -> list[list[Block]]:
    """Causal blocks and masked ones apart, each cut by length where padding would cost more than another call."""
    buckets: list[list[Block]] = []
    for masked in (False, True):
        alike = [block for block in blocks if (block.key_segments is not None) == masked]
        alike.sort(key=lambda block: (-block.keys.shape[0], -block.queries.shape[0]))
        waste = ALLOWED_WASTE
        size = (0, 0)
        for block in alike:
            shape = (block.queries.shape[0], block.keys.shape[0])
            waste += size[0] * size[1] - shape[0] * shape[1]
            if waste >= ALLOWED_WASTE or shape[0] > size[0]:
                buckets.append([])
                waste, size = 0, shape
            buckets[-1].append(block)
    return buckets


def _padded(rows: list[Ints]) -> Ints:
    """[B, L] with -1 as padding on the right."""
    lengths = np.array([part.shape[0] for part in rows])
    matrix = np.full((len(rows), int(lengths.max())), -1, dtype=np.int64)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return matrix


def _mask(bucket: list[Block], queries: Ints, keys: Ints) -> torch.Tensor | None:
    """[B, 1, Lq, Lk]: 0 where a query may look (prompt and own completion, never ahead), -inf elsewhere."""
    if bucket[0].key_segments is None:
        return None
    key_segments = _padded([block.key_segments for block in bucket if block.key_segments is not None])[:, None, :]
    query_segments = _padded([block.query_segments for block in bucket if block.query_segments is not None])[:, :, None]
    padding = queries[:, :, None] < 0  # looks at the prompt, since a row that looks at nothing is NaN
    same = (key_segments == query_segments) & ~padding
    behind = (keys[:, None, :] <= queries[:, :, None]) | padding
    allowed = (same | (key_segments == 0)) & behind & (keys[:, None, :] >= 0)
    return torch.zeros(allowed.shape).masked_fill_(torch.from_numpy(~allowed), float("-inf"))[:, None]


def _gather(places: Ints, rows: int) -> Gather:
    """Read `places` (rows, -1 padding), with the way back."""
    real = np.flatnonzero(places >= 0)
    order = real[np.argsort(places[real], kind="stable")]  # places by the row they read
    read = places[order]
    counts = np.bincount(read, minlength=rows)
    use = np.arange(order.shape[0]) - np.repeat(np.cumsum(counts) - counts, counts)  # which use of its row
    back = tuple(_tensor(order[use == number]) for number in range(int(counts.max())))
    return Gather(_tensor(np.maximum(places, 0)), back)


def _tensor(array: Ints) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
