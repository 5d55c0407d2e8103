"""The sending end of the shared-memory channel: learner and generators on one host."""

from __future__ import annotations

import sys
from multiprocessing import resource_tracker
from typing import cast

import torch

from rlforge.processes import segment_path
from rlforge.types import Manifest
from rlforge.weights.segment import write_segment

_SLOTS = 2  # the version being read stays whole while the next is written


class SharedMemoryChannel:
    """Publishes weights as safetensors files in shared memory, in two slots used in turn.

    A manifest stays readable until the second publish after it. `location` is the file's path. Where the platform
    has one, the standard library's resource tracker also knows the files and removes them when this process is killed.
    """

    def __init__(self, *, run_id: str) -> None:
        self._paths = [segment_path(run_id, f"weights-{slot}") for slot in range(_SLOTS)]
        self._published = 0
        self._tracked: set[str] = set()

    def publish(self, weights: dict[str, object], version: int) -> Manifest:
        """Copy named tensors (Hugging Face names) into shared memory. Raises WeightSyncError when there is no room."""
        path = self._paths[self._published % _SLOTS]
        self._published += 1
        self._track(path.name)
        checksum, size = write_segment(path, cast("dict[str, torch.Tensor]", weights), version)
        return Manifest(version=version, channel="shared_memory", location=str(path), checksum=checksum, bytes=size)

    def close(self) -> None:
        """Remove the files. May be called twice."""
        for path in self._paths:
            path.unlink(missing_ok=True)
        for name in self._tracked:
            resource_tracker.unregister(f"/{name}", "shared_memory")
        self._tracked.clear()

    def _track(self, name: str) -> None:
        if sys.platform == "linux" and name not in self._tracked:  # elsewhere a segment is an ordinary file
            resource_tracker.register(f"/{name}", "shared_memory")
            self._tracked.add(name)
