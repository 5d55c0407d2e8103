"""The receiving end of the shared-memory channel, inside a vLLM worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rlforge.weights.segment import read_segment

# It warns about every layer without weights of its own at every update; we check completeness ourselves.
logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """A manifest, as far as the worker needs it."""

    location: str
    version: int
    checksum: str


class SharedMemoryWeightTransferEngine(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Reads a segment, proves it, and only then touches the model: a refused update leaves the old weights whole."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.report: dict[str, Any] = {}
        """What the last update read: version, checksum, whether it was applied, names it lacked, seconds."""

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Nothing to set up."""

    def start_weight_update(self) -> None:
        """Nothing yet: the model is not to be taken apart before the bytes are proven."""

    def finish_weight_update(self) -> None:
        """Nothing left: `receive_weights` ends with the model whole."""

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Load one segment into the model; a wrong version or checksum is reported instead of loaded."""
        began = perf_counter()
        segment = read_segment(Path(update_info.location))
        proven = (segment.version, segment.checksum) == (update_info.version, update_info.checksum)
        missing = self._apply(segment.tensors) if proven else []
        self.report = {
            "version": segment.version,
            "checksum": segment.checksum,
            "applied": proven and not missing,
            "missing": missing,
            "load_s": perf_counter() - began,
        }

    def shutdown(self) -> None:
        """Nothing to release."""

    def _apply(self, tensors: dict[str, torch.Tensor]) -> list[str]:
        """Load every tensor; returns the names of parameters that none of them filled."""
        expected = {name for name, _ in self.model.named_parameters()}
        # On CPU, linear layers are repacked and the original weight dropped: plain `load_weights` finds size 0.
        initialize_layerwise_reload(self.model)
        loaded: set[str] | None = self.model.load_weights(iter(tensors.items()))  # type: ignore[operator]
        finalize_layerwise_reload(self.model, self.model_config)
        self._repack_embeddings()
        return sorted(expected - loaded) if loaded is not None else []

    def _repack_embeddings(self) -> None:
        """With tied embeddings the repacked output layer would keep the old weights, and nothing would complain."""
        for layer in self.model.modules():
            if isinstance(layer, VocabParallelEmbedding):
                layer.quant_method.process_weights_after_loading(layer)


class WeightReport:
    """Worker extension: lets the driver ask each worker what it read."""

    weight_transfer_engine: SharedMemoryWeightTransferEngine

    def rlforge_weight_report(self) -> dict[str, Any]:
        """`report` of the engine of this worker."""
        return self.weight_transfer_engine.report
