"""Threads for calls that block: started when one is needed, ended when idle, and never waited for at exit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from rlforge.errors import ExtensionError, RlforgeError, boundary

_IDLE_S = 10.0
"""Seconds without work after which a thread ends."""
_MOST = 1024
"""Threads at most; calls beyond them wait for one to be free."""


class Threads:
    """Unlike the standard library's pool this one lets the process end while a call hangs.

    Example: `await asyncio.wrap_future(threads.submit(simulator.step))`.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most or _MOST
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._count = 0

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have a thread do it. Cancelling the future skips work that no thread has begun."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.put((future, work))
            starts = self._one_more()
        if starts:
            self._start()
        return future

    def leave(self, future: Future[Any]) -> None:
        """Nobody waits for this any more: until it is done, another thread may work in place of the one it holds."""
        with self._lock:
            if not future.running() or self._most >= _MOST:
                return
            self._most += 1
            starts = self._one_more()
        future.add_done_callback(self._returned)
        if starts:
            self._start()

    def _returned(self, _: Future[Any]) -> None:
        with self._lock:
            self._most -= 1

    def _one_more(self) -> bool:
        """Whether there is more work than threads that wait for some, and room for one more, which is counted."""
        starts = self._waiting.qsize() > self._idle and self._count < self._most
        self._count += starts
        return starts

    def _start(self) -> None:
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            _do(*taken)
            del taken  # an idle thread keeps no world alive

    def _take(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The next piece of work; None, and one thread fewer, when none comes for a while."""
        with suppress(Empty):
            return self._waiting.get_nowait()
        with self._lock:
            self._idle += 1
        with suppress(Empty):
            taken = self._waiting.get(timeout=_IDLE_S)
            with self._lock:
                self._idle -= 1
                starts = self._one_more()  # work that came meanwhile may have counted on this thread
            if starts:
                self._start()
            return taken
        with self._lock:
            self._idle -= 1
            with suppress(Empty):
                return self._waiting.get_nowait()
            self._count -= 1
            return None


def guarded(call: Callable[[], Any]) -> Any:
    """Do it, on a thread; whatever it raises is an error of ours, ExtensionError where it was none.

    A future cannot carry StopIteration, and an exit or a cancelling that the code raises itself would be taken, where
    it is waited for, for one that somebody asked of us.
    """
    try:
        with boundary("a thread"):
            return call()
    except RlforgeError:
        raise
    except (SystemExit, KeyboardInterrupt) as error:
        raise ExtensionError("the code ended its process") from error
    except BaseException as error:
        raise ExtensionError(f"the code raised {type(error).__name__}") from error


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  carried to the thread that waits
        future.set_exception(error)
    else:
        future.set_result(result)
