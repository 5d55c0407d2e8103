"""Threads for calls that block: started when one is needed, ended when idle, and never waited for at exit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

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
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._count = 0

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Have a thread do it. Cancelling the future skips work that no thread has begun."""
        future: Future[Any] = Future()
        self._waiting.put((future, work))
        if not self._idle.acquire(blocking=False):
            self._start_one()
        return future

    def _start_one(self) -> None:
        with self._lock:
            if self._count >= _MOST:
                return
            self._count += 1
        threading.Thread(target=self._serve, name=f"world-{self._name}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                future, work = self._waiting.get(timeout=_IDLE_S)
            except queue.Empty:
                if self._idle.acquire(blocking=False):  # else a call has just counted on this thread
                    break
                continue
            _do(future, work)
            del future, work  # an idle thread keeps no world alive
            self._idle.release()
        with self._lock:
            self._count -= 1


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  carried to the thread that waits
        future.set_exception(error)
    else:
        future.set_result(result)
