"""Threads for calls that block: started when one is needed, ended when idle, and never waited for at exit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
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

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._count = 0

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have a thread do it. Cancelling the future skips work that no thread has begun."""
        future: Future[Any] = Future()
        with self._changed:
            self._waiting.append((future, work))
            if len(self._waiting) <= self._idle or self._count >= _MOST:
                self._changed.notify()
                return future
            self._count += 1
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        return future

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            _do(*taken)
            del taken  # an idle thread keeps no world alive

    def _take(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The next piece of work; None, and one thread fewer, when none comes for a while."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting, timeout=_IDLE_S)
            self._idle -= 1
            if not self._waiting:
                self._count -= 1
                return None
            return self._waiting.popleft()


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
