"""What can be known of a weight segment without torch: its version, its header and the checksum of its bytes."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlforge.errors import WeightSyncError

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """A mapped segment and what its bytes say."""

    version: int
    checksum: str
    """Over all bytes, header included."""
    entries: dict[str, Any]
    """safetensors header: name -> dtype, shape, data_offsets."""
    start: int
    """Where the data begins, in bytes."""
    memory: mmap.mmap
    """The file, mapped copy-on-write."""


def prove(path: Path) -> Proof:
    """Map a segment and hash it. Raises WeightSyncError when it is gone or not a segment."""
    try:
        with open(path, "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise WeightSyncError(
            f"reading weights from {path}: {error}; the learner replaced or withdrew them, publish again"
        ) from error
    start = 8 + int.from_bytes(memory[:8], "little")
    try:
        entries = json.loads(memory[8:start])
        version = int(entries.pop("__metadata__")["version"])
    except (ValueError, KeyError, AttributeError) as error:
        raise WeightSyncError(
            f"reading weights from {path}: this is no weight segment ({error}); publish again"
        ) from error
    return Proof(version=version, checksum=checksum(memory), entries=entries, start=start, memory=memory)


def checksum(memory: mmap.mmap) -> str:
    """SHA-256 over the SHA-256 of each chunk: one core hashes 1.4 GB/s, a machine's cores together many times that."""
    with memoryview(memory) as view:
        chunks = [view[start : start + _CHUNK_BYTES] for start in range(0, len(view), _CHUNK_BYTES)]
        if len(chunks) == 1:  # not worth a thread
            digests = [_digest(chunks[0])]
        else:
            with ThreadPoolExecutor(min(len(chunks), os.cpu_count() or 1)) as threads:
                digests = list(threads.map(_digest, chunks))
        for chunk in chunks:
            chunk.release()
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _digest(chunk: memoryview) -> bytes:
    return hashlib.sha256(chunk).digest()
