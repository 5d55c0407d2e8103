"""Attention that stays inside each trajectory of a packed batch, computed per length bucket.

A pack is one row of tokens. Attention happens in *blocks*: a block reads some positions of the pack as queries and some
as keys. Blocks of similar shape form a bucket, which is one call of torch's scaled dot product attention. A mask over
the whole pack never exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import torch
import torch.nn.functional as functional
from torch import Tensor

ATTENTION: Final = "rlforge_packed"
"""Name under which transformers knows the attention function of this module."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Rows of a pack read in another order, possibly twice, with padding; and the way back for gradients."""

    rows: Tensor  # [M] long
    """Row of the pack that each place reads; padding reads row 0."""
    back: tuple[Tensor, ...]  # [R_0], [R_1], … long, R_0 = T, not increasing
    """Places that read row 0, 1, 2, …: first use of every row, then the second use of the first R_1 rows, and so on."""

    def to(self, device: torch.device) -> Gather:
        """The same on another device."""
        return Gather(self.rows.to(device), tuple(part.to(device) for part in self.back))


@dataclass(frozen=True, slots=True)
class Bucket:
    """Blocks of similar shape, padded to the same."""

    blocks: int
    queries: int
    keys: int
    mask: Tensor | None  # [B or 1, 1, Lq, Lk] float, 0 or -inf; None: causal


@dataclass(frozen=True, slots=True)
class Layout:
    """How the attention of one pack is computed."""

    queries: Gather
    """Queries of all blocks, bucket after bucket; every row of the pack is a query of exactly one block."""
    keys: Gather
    buckets: tuple[Bucket, ...]
    padding: Tensor  # [·] long
    """Places of `queries.rows` that are padding."""

    def to(self, device: torch.device) -> Layout:
        """The same on another device."""
        if device.type == "cpu":
            return self
        buckets = tuple(
            Bucket(b.blocks, b.queries, b.keys, None if b.mask is None else b.mask.to(device)) for b in self.buckets
        )
        return Layout(self.queries.to(device), self.keys.to(device), buckets, self.padding.to(device))


class _Read(torch.autograd.Function):
    """`x[rows]` whose backward sums by reading too: several times faster on a CPU than adding row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, *back: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(*back)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        first, *more = cast(tuple[Tensor, ...], ctx.saved_tensors)
        total = grads[0].index_select(0, first)
        for places in more:
            total[: places.shape[0]] += grads[0].index_select(0, places)
        return (total, None, *(None for _ in (first, *more)))


class _PutBack(torch.autograd.Function):
    """Results of padded blocks back into pack order; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, rows: Tensor, padding: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(rows, padding)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, padding = cast(tuple[Tensor, Tensor], ctx.saved_tensors)
        grad = grads[0].index_select(0, rows)
        if padding.shape[0]:
            grad.index_fill_(0, padding, 0.0)
        return grad, None, None, None


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    packed_layout: Layout,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of one pack; the signature is that of transformers' `AttentionInterface`.

    `query` [1, H, T, D], `key` and `value` [1, K, T, D] with K dividing H. Returns [1, T, H, D].
    """
    del module, attention_mask
    queries = _read(query, packed_layout.queries)
    keys = _read(key, packed_layout.keys)
    values = _read(value, packed_layout.keys)
    q_sizes = [bucket.blocks * bucket.queries for bucket in packed_layout.buckets]
    k_sizes = [bucket.blocks * bucket.keys for bucket in packed_layout.buckets]
    parts = zip(packed_layout.buckets, queries.split(q_sizes), keys.split(k_sizes), values.split(k_sizes), strict=True)
    outputs = [_attend(bucket, q, k, v, scaling) for bucket, q, k, v in parts]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    put_back = cast(Any, _PutBack).apply
    output = put_back(joined, packed_layout.queries.back[0], packed_layout.queries.rows, packed_layout.padding)
    return output.unsqueeze(0), None


def _read(states: Tensor, gather: Gather) -> Tensor:
    """[1, H, T, D] -> [M, H, D]."""
    return cast(Any, _Read).apply(states[0].transpose(0, 1), gather.rows, *gather.back)


def _attend(bucket: Bucket, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """One bucket: [B·Lq, H, D], [B·Lk, K, D] twice -> [B·Lq, H, D]."""
    output = functional.scaled_dot_product_attention(
        query.unflatten(0, (bucket.blocks, bucket.queries)).transpose(1, 2),
        key.unflatten(0, (bucket.blocks, bucket.keys)).transpose(1, 2),
        value.unflatten(0, (bucket.blocks, bucket.keys)).transpose(1, 2),
        attn_mask=None if bucket.mask is None else bucket.mask.to(query.dtype),
        is_causal=bucket.mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2).flatten(0, 1)
