"""One version of a model's weights as a file in shared memory: safetensors layout, written by one memory copy."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlforge.errors import WeightSyncError
from rlforge.weights.proof import checksum, prove

_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 64  # bytes; readers map tensors in place, which wants them aligned


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """What a reader found in a segment."""

    version: int
    checksum: str
    """Computed over the bytes read, header included."""
    tensors: dict[str, torch.Tensor]
    """Views of the file's memory: copy what must outlive the next publish."""


def write_segment(path: Path, weights: Mapping[str, torch.Tensor], version: int) -> tuple[str, int]:
    """Write named tensors (any device) to `path`; returns (checksum, bytes). Tensors that share memory go once."""
    chosen = _without_aliases(weights)
    header, offsets = _layout(chosen, version)
    start = 8 + len(header)
    size = start + sum(_bytes(tensor) for tensor in chosen.values())
    with open(path, "r+b" if path.exists() else "x+b") as file:
        _reserve(file.fileno(), size, path)
        with mmap.mmap(file.fileno(), size) as memory:
            memory[:8] = len(header).to_bytes(8, "little")
            memory[8:start] = header
            for name, tensor in chosen.items():
                _view(memory, tensor.dtype, start + offsets[name], tensor.shape).copy_(tensor)
            return checksum(memory), size


def read_segment(path: Path) -> Segment:
    """Map a segment, prove its bytes and view its tensors. Raises WeightSyncError when it is gone or not a segment."""
    proof = prove(path)
    tensors = {
        name: _view(proof.memory, _DTYPES[entry["dtype"]], proof.start + entry["data_offsets"][0], entry["shape"])
        for name, entry in proof.entries.items()
    }
    return Segment(version=proof.version, checksum=proof.checksum, tensors=tensors)


def _layout(weights: Mapping[str, torch.Tensor], version: int) -> tuple[bytes, dict[str, int]]:
    """The safetensors header and where each tensor begins after it."""
    offsets: dict[str, int] = {}
    header: dict[str, Any] = {"__metadata__": {"version": str(version)}}
    position = 0
    for name, tensor in weights.items():
        end = position + _bytes(tensor)
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        offsets[name] = position
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-(8 + len(text)) % _ALIGNMENT), offsets


def _without_aliases(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop names that repeat another's memory (tied embeddings); widest elements first, which keeps all aligned."""
    seen: set[tuple[Any, ...]] = set()
    chosen: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        place = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        chosen[name] = tensor.detach()
    return dict(sorted(chosen.items(), key=lambda item: -item[1].element_size()))


def _reserve(descriptor: int, size: int, path: Path) -> None:
    """Make room now: a write into a full `/dev/shm` would end the process with SIGBUS."""
    os.ftruncate(descriptor, size)
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.ftruncate(descriptor, 0)
        raise WeightSyncError(
            f"publishing {size / 2**20:.0f} MiB of weights to {path}: {error}; give {path.parent} more room "
            "(docker: --shm-size) or free some"
        ) from error


def _view(memory: mmap.mmap, dtype: torch.dtype, offset: int, shape: Sequence[int]) -> torch.Tensor:
    elements = math.prod(shape)
    if elements == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=elements, offset=offset).view(tuple(shape))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
