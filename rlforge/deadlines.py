"""Every wait has a name and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from rlforge.errors import DeadlineExceeded


@asynccontextmanager
async def deadline(seconds: float, waiting_for: str) -> AsyncGenerator[None]:
    """Cancel the body after `seconds` and raise `DeadlineExceeded`, which names what was `waiting_for`.

    Example: `async with deadline(30, "generator 0 to load policy version 7"): ...`
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():  # the body's own TimeoutError is not ours to rename
            raise
        raise DeadlineExceeded(f"waited {seconds:g} s for {waiting_for}; giving up") from error
