"""Runs a program in a sandbox, from an event loop."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rlforge
from rlforge.deadlines import deadline
from rlforge.errors import DeadlineExceeded, SandboxError
from rlforge.sandbox.programs import Ended, Execution, Isolation, Limits, Program

_SETUP_S = 30.0
"""A busy machine may take its time over the room; what is timed is the program."""
_STOP_S = 15.0
INTERPRETER = os.path.realpath(sys.executable)
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/alternatives", "/nix/store")
"""What every program may read, where it exists: the system's programs and libraries, no settings and no data."""


def python(*arguments: str) -> tuple[str, ...]:
    """A command for this interpreter, with its standard library and what is installed beside that; no user's folder."""
    return (INTERPRETER, "-s", "-B", *arguments)


async def execute(
    program: Program, limits: Limits, isolation: Isolation, channel: socket.socket | None = None
) -> Execution:
    """Run a program at one level of isolation; `channel` is its descriptor 3, and closed here once the program has it.

    Raises SandboxError when the sandbox itself fails, which says nothing about the program.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            order = _order(program, limits, isolation, channel)
            launcher = await _launch(theirs, channel)
        if channel:
            channel.close()
        try:
            return await _attend(launcher, ours, order, limits, isolation)
        finally:
            ours.close()  # the launcher ends with whatever is left
            await _gone(launcher)


async def _launch(control: socket.socket, channel: socket.socket | None) -> asyncio.subprocess.Process:
    home = str(Path(rlforge.__file__).parent.parent)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-S", "-s", "-B", "-m", "rlforge.sandbox.launcher"),
        stdin=control.fileno(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=() if channel is None else (channel.fileno(),),
        env={"PYTHONPATH": home},
        cwd="/",
        start_new_session=True,
    )


def _order(program: Program, limits: Limits, isolation: Isolation, channel: socket.socket | None) -> dict[str, Any]:
    prefix = os.path.realpath(sys.base_prefix)
    basic = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/work", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
    return {
        "level": isolation.value,
        "command": program.command,
        "environment": {**basic, "PYTHONHASHSEED": "0", **program.environment},
        "files": {_inner(name): _text(content) for name, content in program.files.items()},
        "stdin": _text(program.stdin),
        "readable": [*SYSTEM, prefix, *map(os.path.realpath, program.readable)],
        "limits": asdict(limits),
        "channel": None if channel is None else channel.fileno(),
        "bwrap": shutil.which("bwrap"),
        "python": INTERPRETER,
    }


def _inner(name: str) -> str:
    if name.startswith("/") or ".." in Path(name).parts:
        raise SandboxError(f"the file '{name}' of a program leaves its working folder; name files relative to it")
    return name


def _text(content: str | bytes) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


async def _attend(
    launcher: asyncio.subprocess.Process,
    control: socket.socket,
    order: Mapping[str, Any],
    limits: Limits,
    isolation: Isolation,
) -> Execution:
    body = json.dumps(order).encode()
    tap = _Tap(limits.output_bytes, control)
    assert launcher.stdout
    assert launcher.stderr
    try:
        async with deadline(limits.wall_s + _SETUP_S, "a sandbox to end its program"):
            with suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(control, len(body).to_bytes(8, "big") + body)
            outputs = asyncio.gather(tap.drain(launcher.stdout), tap.drain(launcher.stderr))
            try:
                report = await _report(control)
                stdout, stderr = await outputs
            finally:
                outputs.cancel()
    except DeadlineExceeded as error:
        raise SandboxError(f"{error}; is the machine overloaded?") from error
    if not report or report.get("broken"):
        said = f"{(report or {}).get('broken', 'no report')} {stderr.decode(errors='replace').strip()[-500:]}"
        raise SandboxError(f"isolation '{isolation}' of {order['command'][0]}: {said.strip()}")
    return _execution(report, tap.cut, limits, stdout, stderr, isolation)


async def _report(control: socket.socket) -> dict[str, Any] | None:
    received = b""
    with suppress(ConnectionError):
        while piece := await asyncio.get_running_loop().sock_recv(control, 1 << 16):
            received += piece
    return json.loads(received) if received else None


class _Tap:
    """Takes what a program prints, up to a number of bytes; then hangs up on it."""

    def __init__(self, limit: int, control: socket.socket) -> None:
        self._left = limit
        self._control = control
        self.cut = False

    async def drain(self, stream: asyncio.StreamReader) -> bytes:
        kept = b""
        while piece := await stream.read(1 << 16):
            kept += piece[: self._left]
            if len(piece) > self._left and not self.cut:
                self.cut = True
                with suppress(OSError):
                    self._control.shutdown(socket.SHUT_WR)
            self._left = max(0, self._left - len(piece))
        return kept


def _execution(
    report: Mapping[str, Any], cut: bool, limits: Limits, stdout: bytes, stderr: bytes, isolation: Isolation
) -> Execution:
    ended, words = _ended(report, cut, limits)
    return Execution(
        ended=ended,
        exit_code=report["status"] if ended is Ended.EXITED else None,
        stdout=stdout,
        stderr=stderr,
        seconds=report["seconds"],
        cpu_s=report.get("cpu_s", 0.0),
        isolation=isolation,
        words=words,
    )


def _ended(report: Mapping[str, Any], cut: bool, limits: Limits) -> tuple[Ended, str]:
    status = report.get("status")
    if cut:
        return Ended.OUTPUT, f"printed more than {limits.output_bytes} bytes"
    if report["stopped"] == "wall_time":
        return Ended.WALL_TIME, f"took longer than {limits.wall_s:g} s"
    if report["stopped"] == "memory":
        return Ended.MEMORY, f"its processes took more than {limits.memory_bytes} bytes of memory"
    if status is None:
        raise SandboxError("a sandbox ended before its program; something outside killed it")
    if status >= 0:
        return Ended.EXITED, f"exited with {status}"
    if status == -signal.SIGXCPU or (status == -signal.SIGKILL and report["seconds"] >= limits.cpu_s):
        return Ended.CPU_TIME, f"used more than {limits.cpu_s:g} s of processor time"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else "unknown"
    return Ended.SIGNAL, f"ended by signal {-status} ({name})"


async def _gone(launcher: asyncio.subprocess.Process) -> None:
    """Wait for the launcher to end, which it does once everything below it has."""
    try:
        async with deadline(_STOP_S, "a sandbox's launcher to end"):
            await launcher.wait()
    except DeadlineExceeded:
        launcher.kill()
        await launcher.wait()
