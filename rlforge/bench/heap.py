"""The heap of the bench's own process, kept while it measures as the processes of a run keep theirs."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

from rlforge.processes import settle_heap


@contextmanager
def settled_heap() -> Generator[None]:
    """Settle the heap as every rollout worker and router does; afterwards all is as before."""
    usual = gc.get_threshold()
    settle_heap()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)
