"""Asks endpoints for code that has no event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import lru_cache
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def blocking(asking: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for what is asked; the deadline is the coroutine's own. May be called within a running event loop.

    All such calls share one loop that never closes: gRPC delivers late events to the loop of a call, and complains on
    standard error when that is gone.
    """
    return asyncio.run_coroutine_threadsafe(asking, _loop()).result()


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="rlforge-asking", daemon=True).start()
    return loop
