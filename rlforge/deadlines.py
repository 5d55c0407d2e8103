"""Every wait has a name and a deadline."""

from __future__ import annotations

import asyncio
from types import TracebackType

from rlforge.errors import DeadlineExceeded


def deadline(seconds: float, waiting_for: str) -> Deadline:
    """Cancel the body after `seconds` and raise `DeadlineExceeded`, which names what was `waiting_for`.

    Example: `async with deadline(30, "generator 0 to load policy version 7"): ...`
    """
    return Deadline(seconds, waiting_for)


class Deadline:
    """A wait under way; a class, because a generator would cost twice as much in every turn of every rollout."""

    __slots__ = ("_scope", "_seconds", "_waiting_for")

    def __init__(self, seconds: float, waiting_for: str) -> None:
        self._seconds = seconds
        self._waiting_for = waiting_for

    async def __aenter__(self) -> None:
        self._scope = asyncio.timeout(self._seconds)
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError as late:  # our own: the body's would have passed through
            raise DeadlineExceeded(f"waited {self._seconds:g} s for {self._waiting_for}; giving up") from late
