"""The last steps before the program, in the process that becomes it: descriptors, limits, user, exec.

Standard library alone: under bubblewrap this file is a script of its own, where nothing else of rlforge is in sight.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

CHANNEL = 3
"""Descriptor under which a program finds the socket it was given."""
_PR_SET_NO_NEW_PRIVS = 38


def become(order: dict[str, Any], begun: int, stdin: int, user: int | None, company: int) -> None:
    """Turn this process into the ordered program; writes `+` to `begun` first, and what went wrong after it.

    `company` is the number of processes that the system already counts against `processes`.
    """
    try:
        os.dup2(stdin, 0)
        begun = _keep(order["channel"], begun)
        _limit(order["limits"], company)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        os.write(begun, b"+")
        os.execve(order["command"][0], order["command"], order["environment"])
    except (OSError, ValueError) as error:
        os.write(begun, f"{type(error).__name__}: {error} ({order['command'][0]})".encode())
    os._exit(127)


def _keep(channel: int | None, begun: int) -> int:
    """Close every descriptor but the standard ones, the channel and `begun`, whose new number is returned."""
    moved = os.dup(begun)
    while moved <= CHANNEL:
        moved = os.dup(begun)
    if channel is not None:
        os.dup2(channel, CHANNEL)
    first = CHANNEL if channel is None else CHANNEL + 1
    os.closerange(first, moved)
    os.closerange(moved + 1, 4096)
    os.set_inheritable(moved, False)
    return moved


def _limit(limits: dict[str, Any], company: int) -> None:
    cpu_s = math.ceil(limits["cpu_s"])
    _set(resource.RLIMIT_CORE, 0, 0)
    _set(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)  # the first can be ignored by the program, the second cannot
    _set(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _set(resource.RLIMIT_NOFILE, limits["open_files"])
    _set(resource.RLIMIT_NPROC, limits["processes"] + company)
    _set(resource.RLIMIT_AS, limits["memory_bytes"])
    if sys.platform == "linux":
        _set(resource.RLIMIT_MSGQUEUE, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # the first to go when memory runs out
        score.write("1000")


def _set(kind: int, soft: int, hard: int | None = None) -> None:
    """Lower a limit; never above what this process has been given itself."""
    _, ceiling = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    become(json.loads(sys.argv[1]), int(sys.argv[2]), 0, None, int(sys.argv[3]))
