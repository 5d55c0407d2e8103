"""The process between us and a sandbox: starts the program, watches its time and memory, ends all of it.

Started as `python -m rlforge.sandbox.launcher`; its standard input is a socket. Over it comes one order (eight bytes
of length, then JSON) and goes back one report (JSON). When the owner hangs up or dies, everything here ends at once.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from rlforge.sandbox import room, tree
from rlforge.sandbox.inside import become
from rlforge.sandbox.tree import die_with_parent

_TICK_S = 0.1
_END_S = 10.0
_INSIDE = os.path.join(os.path.dirname(__file__), "inside.py")


def main() -> None:
    """Carry out one order and report."""
    control = socket.socket(fileno=os.dup(0))
    order = _receive(control)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to answer
    order["files"] = {name: base64.b64decode(content) for name, content in order["files"].items()}
    tree.adopt_orphans()
    level = order["level"]
    with tree.scratch(order) if level in ("user", "limits") else nullcontext():
        report = _Run(order, control).report()
    with suppress(OSError):
        control.sendall(json.dumps(report).encode())


def _receive(control: socket.socket) -> dict[str, Any]:
    incoming = control.makefile("rb")
    size = int.from_bytes(incoming.read(8), "big")
    return json.loads(incoming.read(size))


class _Run:
    """One program from its start to its end."""

    def __init__(self, order: dict[str, Any], control: socket.socket) -> None:
        self._order = order
        self._control = control
        self._begun, self._begun_write = os.pipe()
        self._ended, self._ended_write = os.pipe()
        self._alive_read, self._alive = os.pipe()
        self._stopped = ""
        self._last_words = b""
        self._start = 0.0
        self._seconds = 0.0

    def report(self) -> dict[str, Any]:
        """Start the program, watch it, end it; what happened, in plain values."""
        start = {"namespaces": self._in_namespaces, "bubblewrap": self._in_bubblewrap}
        stdin = _file(base64.b64decode(self._order["stdin"]))
        try:
            begin = start.get(self._order["level"], self._in_limits)(stdin)
        except OSError as error:
            return {"broken": str(error)}
        warden = self._fork(begin)
        for descriptor in (1, 2, *filter(None, [self._order["channel"]])):  # the program's alone from here on
            os.dup2(0, descriptor)
        self._watch(warden)
        user = self._order.get("user")
        ended = tree.end_all(warden, user, time.monotonic() + _END_S)
        told = json.loads(os.read(self._ended, 4096) or b"{}")
        words = self._last_words.decode(errors="replace")
        broken = "" if words == "+" or self._stopped == "hung_up" else words.removeprefix("+") or "it did not begin"
        left = "" if ended else "processes of the program could not be ended"
        return {"broken": broken or left, "stopped": self._stopped, "seconds": self._seconds, **told}

    def _fork(self, begin: Callable[[], None]) -> int:
        """The warden: first process of the room, parent of the program."""
        pid = os.fork()
        if pid:
            for descriptor in (self._begun_write, self._ended_write, self._alive_read):
                os.close(descriptor)
            return pid
        try:
            os.setsid()
            os.close(self._alive)
            die_with_parent(self._alive_read)
            self._control.close()
            begin()
        except (OSError, ValueError) as error:
            os.write(self._begun_write, f"{error}".encode())
        os._exit(1)

    def _in_namespaces(self, stdin: int) -> Callable[[], None]:
        as_root = os.geteuid() == 0
        room.enter()
        order = self._order
        if as_root:
            user, company = room.PROGRAM_USER, 0
        else:
            user, company = None, 2  # this process and the warden are of the same user

        def begin() -> None:
            room.furnish(order["readable"], order["files"], order["limits"]["disk_bytes"])
            self._guard(stdin, user, company)

        return begin

    def _in_limits(self, stdin: int) -> Callable[[], None]:
        order = self._order
        os.chdir(order["folder"])
        user = order.get("user")
        company = tree.threads_of(os.geteuid() if user is None else user)
        return lambda: self._guard(stdin, user, company)

    def _in_bubblewrap(self, stdin: int) -> Callable[[], None]:
        from rlforge.sandbox.bubblewrap import command

        order = self._order
        files = {name: _file(content) for name, content in order["files"].items()}
        inner = {name: order[name] for name in ("command", "environment", "limits", "channel")}
        script = [order["python"], "-I", "-S", "/.inside.py", json.dumps(inner), str(self._begun_write), "2"]
        full = [*command(order, files, _INSIDE), "--", *script]

        def begin() -> None:
            pid = os.fork()
            if pid == 0:
                os.dup2(stdin, 0)
                for descriptor in (self._begun_write, *files.values()):
                    os.set_inheritable(descriptor, True)
                os.execve(order["bwrap"], full, {})
            self._attend(pid, tells_signals=False)

        return begin

    def _guard(self, stdin: int, user: int | None, company: int) -> None:
        """Fork the program and see it to its end."""
        tree.hide()
        pid = os.fork()
        if pid == 0:
            become(self._order, self._begun_write, stdin, user, company)
        self._attend(pid)

    def _attend(self, program: int, *, tells_signals: bool = True) -> None:
        """Wait for the program and say how it ended; bubblewrap tells a signal as an exit status above 128."""
        os.close(self._begun_write)
        os.closerange(0, 3)
        pid, status, usage = os.wait4(-1, 0)
        while pid != program:  # an orphan of the program, which became ours
            pid, status, usage = os.wait4(-1, 0)
        code = os.waitstatus_to_exitcode(status)
        code = code if tells_signals or code <= 128 else 128 - code
        told = {"status": code, "cpu_s": usage.ru_utime + usage.ru_stime}
        os.write(self._ended_write, json.dumps(told).encode())
        os._exit(0)

    def _watch(self, warden: int) -> None:
        """Wait for the program's end, its limits or the owner's hang-up, whichever comes first."""
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._begun, self._ended):
            poll.register(descriptor, select.POLLIN)
        limits = self._order["limits"]
        while not self._stopped:
            ready = dict(poll.poll(self._patience_ms(limits["wall_s"])))
            if self._begun in ready:
                self._hear_begun(poll)
            if self._ended in ready:
                break
            if self._control.fileno() in ready:
                self._stopped = "hung_up"
            elif self._start and time.monotonic() - self._start > limits["wall_s"]:
                self._stopped = "wall_time"
            elif self._start and tree.memory_bytes(warden) > limits["memory_bytes"]:
                self._stopped = "memory"
        self._seconds = time.monotonic() - self._start if self._start else 0.0
        if self._begun in dict(poll.poll(0)):  # ended before it was looked at
            self._hear_begun(poll)

    def _hear_begun(self, poll: select.poll) -> None:
        said = os.read(self._begun, 4096)
        self._last_words += said
        self._start = self._start or time.monotonic()
        if not said:
            poll.unregister(self._begun)

    def _patience_ms(self, wall_s: float) -> float:
        left_s = wall_s - (time.monotonic() - self._start) if self._start else _TICK_S
        return 1000 * max(0.001, min(_TICK_S, left_s))


def _file(content: bytes) -> int:
    """An open file with this content, at its beginning, without a name."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return os.dup(file.fileno())


if __name__ == "__main__":
    main()
