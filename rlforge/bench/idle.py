"""Memory of a world that stands still, measured in a process of its own: by hand, and in the environment loop."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable

import grpc.aio
import psutil

from rlforge.bench.worlds import Player, bare_world, played
from rlforge.errors import SetupError
from rlforge.together import end
from rlforge.types import Completion, GenerateRequest

WARM, WORLDS = 128, 1024
"""Worlds before the first look at the memory, and those that come after it."""
_LIMIT_S = 120.0


def bytes_per_world(side: str, address: str) -> float:
    """Resident bytes that each world adds to a client; `side` is `bare` or `ours`."""
    command = [sys.executable, "-m", "rlforge.bench.idle", side, address]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if ended.returncode:
        raise SetupError(f"measuring the memory of idle worlds ({side}) failed: {ended.stderr.strip()[-500:]}")
    return float(ended.stdout)


class _Idle:
    """A policy that never answers, and counts how many wait for it."""

    def __init__(self) -> None:
        self.waiting = 0

    async def think(self) -> None:
        self.waiting += 1
        await asyncio.Event().wait()

    async def generate(self, _request: GenerateRequest) -> Completion:
        await self.think()
        raise AssertionError("nobody sets the event")

    async def until(self, worlds: int) -> None:
        async with asyncio.timeout(_LIMIT_S):
            while self.waiting < worlds:  # noqa: ASYNC110 (RSS is read a moment later anyway)
                await asyncio.sleep(0.05)


async def _measured(start: Callable[[int], Awaitable[object]], idle: _Idle) -> float:
    """Start worlds in two helpings; bytes that each of the second adds."""
    first = asyncio.ensure_future(start(WARM))
    await idle.until(WARM)
    before = _resident()
    second = asyncio.ensure_future(start(WORLDS))
    await idle.until(WARM + WORLDS)
    found = (_resident() - before) / WORLDS
    await end((first, second))
    return found


def _resident() -> int:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was used in passing is not a world's
    return psutil.Process().memory_info().rss


async def _bare(address: str) -> float:
    idle = _Idle()
    async with grpc.aio.insecure_channel(address) as channel:

        async def start(worlds: int) -> None:
            await asyncio.gather(*(bare_world(channel, 1, 0.0, idle.think) for _ in range(worlds)))

        return await _measured(start, idle)


async def _ours(address: str) -> float:
    idle = _Idle()
    with tempfile.TemporaryDirectory() as folder:
        loop = await Player(address, folder).loop(idle.generate)
        try:
            return await _measured(lambda worlds: played(loop, worlds, 1, 0.0), idle)
        finally:
            await loop.close()


if __name__ == "__main__":
    print(asyncio.run({"bare": _bare, "ours": _ours}[sys.argv[1]](sys.argv[2])))
