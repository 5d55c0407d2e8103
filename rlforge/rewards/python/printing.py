"""Catches what a customer's function prints, call by call, and forgets what is beyond the limit."""

from __future__ import annotations

import contextvars
import io
import os
from typing import BinaryIO


class Printed:
    """What one call printed: its first `limit` characters."""

    def __init__(self, limit: int) -> None:
        self._parts: list[str] = []
        self._left = limit
        self._clipped = False

    def add(self, text: str) -> None:
        """Take as much of the text as there is room for."""
        if len(text) > self._left:
            self._clipped = True
            text = text[: self._left]
        if text:
            self._left -= len(text)
            self._parts.append(text)

    @property
    def text(self) -> str:
        """All of it, marked where it was clipped."""
        return "".join(self._parts) + (" … (clipped)" if self._clipped else "")


current: contextvars.ContextVar[Printed | None] = contextvars.ContextVar("current", default=None)
"""Where prints of the running call go. Coroutines that run at once each have their own."""


class Prints(io.TextIOBase):
    """Stands for `sys.stdout` and `sys.stderr`; prints outside any call go to the real `stream`."""

    encoding = "utf-8"

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self.buffer: BinaryIO = os.fdopen(os.dup(stream), "wb", buffering=0)

    def write(self, text: str) -> int:
        """Give the text to the running call."""
        printed = current.get()
        if printed is None:
            os.write(self._stream, text.encode(errors="replace"))
        else:
            printed.add(text)
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The real stream, for those who hand it to a process of their own."""
        return self._stream
