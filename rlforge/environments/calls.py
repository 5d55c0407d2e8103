"""Calls the user's functions, coroutines on the event loop and others on a thread, and attributes what they raise."""

from __future__ import annotations

import asyncio
import inspect
import sysconfig
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from rlforge.errors import DeadlineExceeded, EndpointBroken, EndpointError, ExtensionError, RlforgeError, boundary
from rlforge.threads import Threads, guarded

_NOT_THEIRS = (str(Path(__file__).parents[1]), sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])


class Caller:
    """Calls functions of one world, one at a time.

    Example: `await caller(arm.step, "up")`.
    """

    def __init__(self, threads: Threads, who: str) -> None:
        self._threads = threads
        self._who = who
        self._running: Future[Any] | None = None

    async def __call__(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What the function gives. Raises EndpointBroken for what it raises.

        Cancelled, it returns at once: a coroutine is cancelled too, a thread goes on and its result is dropped.
        """
        call = partial(function, *given, **named)
        try:
            with boundary(self._who):
                if inspect.iscoroutinefunction(function):
                    return await call()
                self._running = self._threads.submit(partial(guarded, call))
                result = await asyncio.wrap_future(self._running)
                return await result if inspect.isawaitable(result) else result
        except (EndpointError, DeadlineExceeded):
            raise
        except (RlforgeError, SystemExit) as error:
            raise EndpointBroken(f"{self._who} failed in {_name(function)}(): {describe(error)}") from error

    @property
    def busy(self) -> bool:
        """Whether a thread is at work for this world."""
        return self._running is not None and not self._running.done()

    async def idle(self) -> None:
        """Wait for a thread that nobody waits for any more."""
        if self._running is not None and not self._running.done():
            done = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._running.add_done_callback(lambda _: _tell(loop, done))
            await done.wait()


def describe(error: BaseException) -> str:
    """The exception with the last line of the user's own code that it passed through."""
    if isinstance(error, ExtensionError) and error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith((*_NOT_THEIRS, "<"))] or frames
    where = f" ({theirs[-1].filename}:{theirs[-1].lineno} in {theirs[-1].name})" if theirs else ""
    return f"{type(error).__name__}: {error}{where}"


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(done.set)
