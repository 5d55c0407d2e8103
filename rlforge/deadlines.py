"""Every wait has a name and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from weakref import WeakKeyDictionary

from rlforge.errors import DeadlineExceeded

_LONG_S = 20.0
"""Seconds from which on a wait may end a little late: all of those share one timer."""
_LOOK_S = 1.0
"""Seconds between two looks at the long waits: how late one ends at most."""


def deadline(seconds: float, waiting_for: str | Callable[[], str]) -> Deadline:
    """Cancel the body after `seconds` and raise `DeadlineExceeded`, which names what was `waiting_for`.

    A wait of 20 s or more ends up to a second late. A name that is a function is only asked for when it is told.

    Example: `async with deadline(30, "generator 0 to load policy version 7"): ...`
    """
    return Deadline(seconds, waiting_for)


class Limit:
    """A body that is cancelled after `seconds`, as by `asyncio.timeout`, at a fraction of its price for long waits.

    Thousands of waits of minutes begin and end every second, and hardly one of them is ever too long.
    """

    __slots__ = ("_cancelling", "_task", "_timer", "ends", "late", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def begin(self) -> None:
        """The time runs."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline was set outside of a task")
        self._task, loop = task, task.get_loop()  # asking which loop runs is a system call
        self._cancelling = task.cancelling()
        self.late = False
        self.ends = loop.time() + self.seconds
        self._timer = loop.call_at(self.ends, self.expire) if self.seconds < _LONG_S else _long_waits(loop).wait(self)

    def over(self, kind: type[BaseException] | None) -> bool:
        """End it; whether an exception of this kind is our own cancelling, and nobody else's beside it."""
        if isinstance(self._timer, _LongWaits):
            self._timer.end(self)
        else:
            self._timer.cancel()
        return self.late and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError

    def expire(self) -> None:
        """Cancel the body."""
        self.late = True
        self._task.cancel()


class Deadline(Limit):
    """A wait under way; a class, because a generator would cost twice as much in every turn of every rollout."""

    __slots__ = ("_waiting_for",)

    def __init__(self, seconds: float, waiting_for: str | Callable[[], str]) -> None:
        self.seconds = seconds
        self._waiting_for = waiting_for

    async def __aenter__(self) -> None:
        self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.over(kind):
            what = self._waiting_for if isinstance(self._waiting_for, str) else self._waiting_for()
            raise DeadlineExceeded(f"waited {self.seconds:g} s for {what}; giving up") from error


class _LongWaits:
    """The long waits of one event loop, looked at again and again while there are any."""

    def __init__(self) -> None:
        self._waits: set[Limit] = set()
        self._looking = False

    def wait(self, wait: Limit) -> _LongWaits:
        self._waits.add(wait)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        return self

    def end(self, wait: Limit) -> None:
        self._waits.discard(wait)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        for wait in [wait for wait in self._waits if wait.ends <= loop.time()]:
            self._waits.discard(wait)
            wait.expire()
        self._looking = bool(self._waits)
        if self._looking:
            loop.call_later(_LOOK_S, self._look)


_BY_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, _LongWaits] = WeakKeyDictionary()


def _long_waits(loop: asyncio.AbstractEventLoop) -> _LongWaits:
    found = _BY_LOOP.get(loop)
    if found is None:
        found = _BY_LOOP[loop] = _LongWaits()
    return found
