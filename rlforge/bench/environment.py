"""`environment`: turns a second through the environment loop, against a bare `grpc.aio` client that plays by hand.

Both play 1,024 worlds of the do-nothing environment in a process of its own, in turn, so that noise of the machine hits
both. Then the worlds answer after 200 ms, and what a turn takes beyond that is measured; then the worlds stand still,
and the memory of each is. The raw part stands in `worlds.py`, `bare_world`.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from rlforge.bench.heap import settled_heap
from rlforge.bench.idle import bytes_per_world
from rlforge.bench.nothing import serving_nothing
from rlforge.bench.runner import BenchResult
from rlforge.bench.worlds import Player, bare_world, played
from rlforge.types import Completion, GenerateRequest

WORLDS = 1024
TURNS = 8
REPEATS = 7
SLOW_TURNS = 4
WORLD_S = 0.2
"""Seconds that a slow world takes for a step."""
THINK_S = 3.8
"""Seconds that the policy takes for a reply to a slow world: with 1,024 worlds it is 256 turns a second."""


def run() -> BenchResult:
    """Value: turns a second; ratio: against the bare client."""
    with serving_nothing() as address, tempfile.TemporaryDirectory() as folder:
        samples, slow = asyncio.run(_measure(address, folder))
        idle = {side: bytes_per_world(side, address) for side in ("ours", "bare")}
    rates = {side: statistics.median(found) for side, found in samples.items()}
    extra: dict[str, Any] = {"bare_turns_per_s": rates["bare"], "worlds": WORLDS}
    for side, found in slow.items():
        extra |= {f"{side}_slow_p50_ms": _beyond(found, 0.5), f"{side}_slow_p99_ms": _beyond(found, 0.99)}
    extra |= {f"{side}_idle_bytes_per_world": found for side, found in idle.items()}
    extra["idle_bytes_per_world_above_bare"] = idle["ours"] - idle["bare"]
    return BenchResult(
        name="environment",
        value=rates["ours"],
        unit="turns/s",
        ratio=rates["ours"] / rates["bare"],
        samples=tuple(samples["ours"]),
        extra=extra,
    )


def _beyond(seconds: list[float], share: float) -> float:
    """Milliseconds beyond what the world itself takes."""
    return 1000 * (sorted(seconds)[int(share * (len(seconds) - 1))] - WORLD_S)


async def _measure(address: str, folder: str) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Turns a second of every round but the first, and seconds of every turn of slow worlds, by side."""
    player = Player(address, folder)
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        loop = await player.loop()
        try:
            with settled_heap():
                samples: dict[str, list[float]] = {"bare": [], "ours": []}
                sides: dict[str, Callable[[], Awaitable[int]]] = {
                    "bare": lambda: bare_round(channel),
                    "ours": lambda: played(loop, WORLDS, TURNS, 0.0),
                }
                for _ in range(REPEATS + 1):
                    for side, play in sides.items():
                        samples[side].append(await _rate(play))
                slow = {"bare": await bare_slow(channel), "ours": await our_slow(player)}
        finally:
            await loop.close()
    return {side: found[1:] for side, found in samples.items()}, slow


async def _rate(play: Callable[[], Awaitable[int]]) -> float:
    began = time.perf_counter()
    turns = await play()
    return turns / (time.perf_counter() - began)


async def bare_round(channel: Any) -> int:
    """Every world by hand; returns the turns."""

    async def think() -> None:
        """The scripted policy takes no time."""

    return sum(await asyncio.gather(*(bare_world(channel, TURNS, 0.0, think) for _ in range(WORLDS))))


# --- slow worlds: from a reply to the next prompt -----------------------------------------------------------------


class Stopwatch:
    """Seconds from the end of one reply of the policy to the beginning of the next, in every rollout."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._ended: dict[Any, float] = {}

    async def think(self) -> None:
        """The policy's time; what passes between two of them is the world's and ours."""
        rollout = asyncio.current_task()
        if rollout in self._ended:
            self.seconds.append(time.perf_counter() - self._ended[rollout])
        await asyncio.sleep(THINK_S)
        self._ended[rollout] = time.perf_counter()


async def bare_slow(channel: Any) -> list[float]:
    """Seconds of every turn but the last, by hand; worlds begin spread over one turn, as those of a run do."""
    watch = Stopwatch()

    async def later(number: int) -> None:
        await asyncio.sleep((THINK_S + WORLD_S) * number / WORLDS)
        await bare_world(channel, SLOW_TURNS, WORLD_S, watch.think)

    await asyncio.gather(*map(later, range(WORLDS)))
    return watch.seconds


async def our_slow(player: Player) -> list[float]:
    """The same through the environment loop."""
    watch = Stopwatch()

    async def generate(request: GenerateRequest) -> Completion:
        await watch.think()
        return await player.generator.generate(request)

    loop = await player.loop(generate)
    try:
        await played(loop, WORLDS, SLOW_TURNS, WORLD_S, spread_s=THINK_S + WORLD_S)
    finally:
        await loop.close()
    return watch.seconds
