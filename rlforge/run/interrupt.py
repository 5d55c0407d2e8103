"""Ctrl-C and SIGTERM: the first asks the run to finish its step, the second ends it now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager


class Interrupt:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._insisted = False

    def __call__(self) -> bool:
        """Whether to stop after the step at hand."""
        return self.asked

    @contextmanager
    def listening(self) -> Generator[None]:
        """Within the body (a coroutine's), signals are ours; before and after, they are as they were.

        The second signal ends the body with KeyboardInterrupt, when it has cleared up.
        """
        loop, body = asyncio.get_running_loop(), asyncio.current_task()
        assert body is not None

        def heard() -> None:
            if self.asked:
                self._insisted = True
                body.cancel()
            self.asked = True

        heard_signals = (signal.SIGINT, signal.SIGTERM)
        for number in heard_signals:
            loop.add_signal_handler(number, heard)
        try:
            yield
        except asyncio.CancelledError:
            if not self._insisted:
                raise
            raise KeyboardInterrupt from None
        finally:
            for number in heard_signals:
                loop.remove_signal_handler(number)
