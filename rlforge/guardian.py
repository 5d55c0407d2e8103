"""A process that runs a command for its owner and sees to it that nothing of it outlives either of them.

`start_guarded()` starts it as `python -m rlforge.guardian FD FDS COMMAND …`: FD is a socket whose other end the owner
holds; the command inherits it, and the comma-separated FDS. The guardian reads nothing from it. When the owner hangs up
or dies, or the command ends, it kills every descendant, detached ones included. When the command ended by itself it
says so: `ended {"status": -11, "words": "what it printed last"}`, status as in `subprocess`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_WORDS_BYTES = 2000
_CLEAN_UP_S = 3.0


def start_guarded(
    module: str,
    arguments: Sequence[str],
    line: socket.socket,
    fds: Sequence[int],
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `python -m MODULE ARGUMENTS …` under a guardian; `line` and `fds` are inherited, `variables` set for both.

    They find rlforge where we did, and nothing else in the current folder first.
    """
    python = [sys.executable, "-P", "-m"]
    home = str(Path(__file__).parent.parent)
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [*python, __name__, str(line.fileno()), ",".join(map(str, fds)), *python, module, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=[line.fileno(), *fds],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, **(variables or {})},
    )


def ending(status: int, words: str) -> str:
    """What a guardian's `ended` says, for people."""
    how = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
    hint = "; the machine may be out of memory" if status == -signal.SIGKILL else ""
    said = f"; its last words: {words.strip()}" if words.strip() else ""
    return f"{how}{hint}{said}"


def main() -> None:
    """Run the command to its end or to the owner's."""
    owner = os.getppid()
    line = socket.socket(fileno=int(sys.argv[1]))
    if sys.platform == "linux":  # orphans of the command become our children, so none escapes by detaching itself
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _wake)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output, printed = os.pipe()
    os.set_blocking(output, False)
    with subprocess.Popen(
        sys.argv[3:],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        pass_fds=[line.fileno(), *map(int, sys.argv[2].split(","))],
        process_group=0,
    ) as command:
        os.close(printed)
        words = _watch(line, owner, command, awake, output)
        _kill_all(command.pid)
        if command.returncode is not None:
            words = (words + _available(output))[-_WORDS_BYTES:]
            report = {"status": command.returncode, "words": words.decode(errors="replace")}
            line.sendall(b"\nended " + json.dumps(report).encode() + b"\n")


def _wake(number: int, frame: object) -> None:
    """Nothing to do: that the signal was caught wakes the poll."""


def _watch(line: socket.socket, owner: int, command: subprocess.Popen[bytes], awake: int, output: int) -> bytes:
    """Wait until owner or command is gone; returns the tail of what was printed meanwhile."""
    poll = select.poll()
    poll.register(line, 0)  # the hang-up alone: what comes over the line is for the command
    poll.register(output, select.POLLIN)
    poll.register(awake, select.POLLIN)
    words = b""
    while command.poll() is None and os.getppid() == owner:
        ready = dict(poll.poll(1000))
        if line.fileno() in ready:
            break
        if output in ready:
            words = (words + _available(output))[-_WORDS_BYTES:]
            if ready[output] == select.POLLHUP:  # closed by the command: nothing more will come
                poll.unregister(output)
        if awake in ready:
            os.read(awake, 512)
    return words


def _available(output: int) -> bytes:
    try:
        return os.read(output, 1 << 16)
    except BlockingIOError:
        return b""


def _kill_all(group: int) -> None:
    """Kill the command's process group at a stroke, then whatever had left it."""
    give_up = time.monotonic() + _CLEAN_UP_S
    while time.monotonic() < give_up:
        _kill_group(group)
        left = [process for process in psutil.Process().children(recursive=True) if _alive(process)]
        if not left:
            return
        for process in left:
            _kill(process)
        time.sleep(0.002)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        return


if __name__ == "__main__":
    main()
