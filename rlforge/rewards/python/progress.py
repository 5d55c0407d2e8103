"""Which rollouts of a chunk the function has in hand, in memory that owner and function's process share.

Reading it costs no message and it is exact at any instant, also when the process was killed in the middle of a call.
"""

from __future__ import annotations

import mmap

CHUNK = 256
"""Rollouts sent to the function's process at once, at most."""
_WAITING, _RUNNING, _FINISHED = 0, 1, 2


class Progress:
    """One byte for each place in the chunk, over a file descriptor of `CHUNK` bytes."""

    def __init__(self, fd: int) -> None:
        self._marks = mmap.mmap(fd, CHUNK)

    def clear(self) -> None:
        """Forget the chunk before."""
        self._marks[:] = bytes(CHUNK)

    def begin(self, index: int) -> None:
        """The function is called with this rollout."""
        self._marks[index] = _RUNNING

    def finish(self, index: int) -> None:
        """The call has ended."""
        self._marks[index] = _FINISHED

    def running(self) -> list[int]:
        """Places that the function has in hand."""
        return [index for index, mark in enumerate(self._marks[:]) if mark == _RUNNING]

    def close(self) -> None:
        """Give the memory back."""
        self._marks.close()
