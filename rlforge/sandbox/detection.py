"""Finds out, once in a process and by trying, how far programs can be kept apart on this machine; and runs them so."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
import weakref

from rlforge.errors import SandboxError
from rlforge.sandbox.programs import Execution, Isolation, Limits, Program
from rlforge.sandbox.running import execute, python

_DEFAULTS = Limits()
_TRIAL = Program(command=python("-c", "print(open('trial').read())"), files={"trial": "it works"})
_WEAKER = {
    Isolation.USER: "code runs as a user of its own, but reaches the network and what every user may read",
    Isolation.LIMITS: "code can reach the network and all that this user can; only its time and size are bounded",
}
_found: Isolation | None = None
_trying: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


async def run(
    program: Program,
    limits: Limits = _DEFAULTS,
    *,
    channel: socket.socket | None = None,
) -> Execution:
    """Run a program as far apart as this machine allows, to its end or its limits; nothing of it is left afterwards.

    `channel` becomes its descriptor 3. Raises SandboxError when the sandbox itself fails, which says nothing about
    the program. Example: `await run(Program(command=python("-c", "print(1)")))`
    """
    return await execute(program, limits, await isolation(), channel)


async def isolation() -> Isolation:
    """The strongest isolation that works here. Raises SandboxError when none does; warns once when it is a weak one."""
    global _found
    async with _trying.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if _found is None:
            _found = await _strongest()
    return _found


async def _strongest() -> Isolation:
    failures: list[str] = []
    for level in Isolation:
        if not _thinkable(level):
            continue
        try:
            trial = await execute(_TRIAL, Limits(), level)
        except SandboxError as error:
            failures.append(str(error))
            continue
        if trial.stdout == b"it works\n":
            if level in _WEAKER:
                _warn(level, failures)
            return level
        failures.append(f"isolation '{level}': {trial.words} {trial.stderr.decode(errors='replace')[-300:]}")
    raise SandboxError(f"no program can be run in a sandbox here: {'; '.join(failures)}")


def _thinkable(level: Isolation) -> bool:
    linux = sys.platform == "linux"
    match level:
        case Isolation.NAMESPACES:
            return linux
        case Isolation.BUBBLEWRAP:
            return linux and shutil.which("bwrap") is not None
        case Isolation.USER:
            return linux and os.geteuid() == 0
        case Isolation.LIMITS:
            return True


def _warn(level: Isolation, failures: list[str]) -> None:
    logging.getLogger(__name__).warning(
        "sandbox: isolation is weaker here: %s. Stronger ones did not work: %s. In a container, allow user namespaces "
        "(a seccomp profile that lets unshare and mount pass), or install bubblewrap.",
        _WEAKER[level],
        "; ".join(failures) or "none is known on this platform",
    )
