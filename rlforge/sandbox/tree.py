"""Processes below a launcher: counted, measured and ended, as far as the system lets it see them."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_USERS_FROM = 1_000_000_000
"""Users of their own are numbered from here by the process that starts them: no two at once are the same."""


def adopt_orphans() -> None:
    """Orphans below this process become its children, so none escapes by detaching itself."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(alive: int) -> None:
    """End with the parent, which holds the other end of the pipe `alive`: it may have ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):
        os._exit(1)
    os.close(alive)


def hide() -> None:
    """No process of the same user may look into this one or trace it."""
    _prctl(_PR_SET_DUMPABLE, 0)


@contextmanager
def scratch(order: dict[str, Any]) -> Generator[None]:
    """A working folder on disk with the order's files, where there is no private one; removed at the end.

    Sets `folder`, and `user` where the order wants one of its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="rlforge-sandbox-"))
    user = _USERS_FROM + os.getpid() if order["level"] == "user" else None
    try:
        for name, content in order["files"].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if user is not None:
            for each in (folder, *folder.rglob("*")):
                os.chown(each, user, user)
        order["folder"], order["user"] = str(folder), user
        order["environment"] |= {"HOME": str(folder), "TMPDIR": str(folder)}
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def below(pid: int) -> Iterator[int]:
    """All processes below one, by their ids."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        children = [child for tid in threads for child in Path(f"/proc/{pid}/task/{tid}/children").read_text().split()]
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from below(child)


def memory_bytes(pid: int) -> int:
    """Memory of all processes below one; 0 where the system has no /proc."""
    pages = 0
    for each in below(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def threads_of(user: int) -> int:
    """Threads that the system counts against a user's limit; 0 where it has no /proc."""
    count = 0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.stat().st_uid == user:
                count += len(os.listdir(path / "task"))
    return count


def end_all(warden: int, user: int | None, give_up: float) -> bool:
    """Kill the warden, everything below this process and everything of `user`; False when something would not die."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(warden, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(warden, signal.SIGKILL)
    while time.monotonic() < give_up:
        if user is not None:
            _kill_user(user)
        for pid in below(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if _reaped():
            return True
        time.sleep(0.002)
    return False


def _reaped() -> bool:
    """Collect what has ended; whether nothing is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _kill_user(user: int) -> None:
    """Kill all processes of a user at a stroke: a process may signal everything it may signal by -1."""
    pid = os.fork()
    if pid == 0:
        with suppress(OSError):
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(pid, 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
