"""What vLLM loads in each of its processes: our weight channel becomes known there, and the process gets an owner."""

from __future__ import annotations

import atexit
import os

from rlforge.processes import OWNER_VARIABLE, die_with_owner, keep_progress_bars_local

BACKEND = "rlforge_shared_memory"
"""Name of the channel in vLLM's weight-transfer registry."""

_state = {"registered": False}


def register() -> None:
    """Entry point of group `vllm.general_plugins`; runs once in each process, also in vLLM that is none of ours."""
    if _state["registered"]:
        return
    _state["registered"] = True
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    WeightTransferEngineFactory.register_engine(
        BACKEND, "rlforge.weights.vllm_worker", "SharedMemoryWeightTransferEngine"
    )
    if int(os.environ.get(OWNER_VARIABLE, os.getpid())) != os.getpid():
        die_with_owner(unlink_segments=True)
        keep_progress_bars_local()
        # Registered before vLLM's own handlers, so it runs after them: taking the interpreter apart costs seconds.
        atexit.register(os._exit, 0)
