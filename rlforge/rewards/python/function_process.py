"""Our end of the process that runs a customer's function: starts it, sends chunks, stops it when it overruns."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from rlforge.deadlines import deadline
from rlforge.errors import ConfigError, DeadlineExceeded, ExtensionError, boundary
from rlforge.guardian import ending, start_guarded
from rlforge.rewards.outcomes import Outcome, unscored
from rlforge.rewards.python.customer import Instructions
from rlforge.rewards.python.frames import encode
from rlforge.rewards.python.progress import CHUNK, Progress
from rlforge.types import Rollout

_START_S = 60.0
"""Importing the function may load large libraries."""
_BLOCKED_S = 1.0
"""Coroutines are stopped from within at the time limit; from here only when they block their process for longer."""
_STOP_S = 5.0
_TICK_S = 0.1
_NOTHING = -1
"""In the place of a rollout, while the process has none in hand: it is reading the frame."""
_READING_S = 30.0


@dataclass(kw_only=True)
class Chunk:
    """What is known of some rollouts sent to the process, by their place among them."""

    count: int
    outcomes: dict[int, Outcome] = field(default_factory=lambda: dict[int, Outcome]())
    fault: Outcome | None = None
    """What ended the process."""
    begun: list[int] = field(default_factory=lambda: list[int]())
    """Those the function had in hand at that moment: one of them is to blame."""


class FunctionProcess:
    """One process at a time; another is started at the next chunk when it was stopped or died."""

    def __init__(self, instructions: Instructions, label: str) -> None:
        self._instructions = instructions
        self._label = label
        self._progress: Progress | None = None
        self._asynchronous = False
        self._process: subprocess.Popen[bytes] | None = None
        self._line: _Line | None = None

    async def start(self) -> None:
        """Start the process and import the function. Raises ConfigError when that cannot work."""
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as shared:
            shared.truncate(CHUNK)
            self._progress = Progress(shared.fileno())
            fds = [str(theirs.fileno()), str(shared.fileno())]
            arguments = [*fds, json.dumps(asdict(self._instructions))]
            module = "rlforge.rewards.python.customer_process"
            self._process = start_guarded(module, arguments, theirs, [shared.fileno()])
        _, self._line = await asyncio.get_running_loop().create_unix_connection(_Line, sock=ours)
        try:
            async with deadline(_START_S, f"reward function '{self._instructions.function}' to be imported"):
                broken = await self._line.ready
                self._asynchronous = self._line.asynchronous
        except DeadlineExceeded as error:
            await self.stop()
            raise ConfigError(f"scorer '{self._label}': {error}; it must be importable in less") from error
        if broken:
            await self.stop()
            raise ConfigError(f"scorer '{self._label}': {broken}")

    async def run(self, rollouts: Sequence[Rollout]) -> Chunk:
        """Have a chunk judged. Raises ConfigError when a new process is needed and cannot be started."""
        chunk = Chunk(count=len(rollouts))
        try:
            with boundary(f"sending {len(rollouts)} rollouts to the function's process"):
                frame = encode(rollouts)
        except ExtensionError as error:
            chunk.begun = list(range(len(rollouts)))
            chunk.fault = unscored("malformed", str(error))
            return chunk
        if self._line is None:
            await self.start()
        assert self._line is not None
        assert self._progress is not None
        self._progress.clear()
        finished = self._line.send(frame, chunk)
        await self._watch(chunk, finished, self._progress)
        if chunk.fault:
            chunk.begun = [index for index in self._progress.running() if index not in chunk.outcomes]
            await self.stop()
        return chunk

    async def stop(self) -> None:
        """Hang up: the guardian kills the function and all its descendants. May be called twice."""
        process, self._process = self._process, None
        line, self._line = self._line, None
        if line:
            line.hang_up()
        if process is None:
            return
        try:
            async with deadline(_STOP_S, "a reward function's process to stop"):
                while process.poll() is None:  # noqa: ASYNC110  nothing portable tells a loop that a process ended
                    await asyncio.sleep(0.005)
        except DeadlineExceeded:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def _watch(self, chunk: Chunk, finished: asyncio.Future[None], progress: Progress) -> None:
        """Look again and again at what the function has in hand, and for how long.

        A call is timed from when it was first seen here, so a busy owner blames nobody for its own delay.
        """
        loop = asyncio.get_running_loop()
        limit_s = self._limit_s(chunk.count)
        seen: dict[int, float] = {}
        while not finished.done():
            await asyncio.wait({finished}, timeout=min(_TICK_S, limit_s / 4))
            now = loop.time()
            seen = {index: seen.get(index, now) for index in progress.running() or [_NOTHING]}
            allowed_s = limit_s + (_READING_S if _NOTHING in seen else 0)
            if not finished.done() and now - min(seen.values()) > allowed_s:
                why = f"the function took longer than {self._instructions.timeout_s:g} s"
                chunk.fault = unscored("timeout", why, retryable=True)
                return

    def _limit_s(self, count: int) -> float:
        calls = count if self._instructions.batch else 1
        return self._instructions.timeout_s * calls + (_BLOCKED_S if self._asynchronous else 0)


class _Line(asyncio.Protocol):
    """Reads the events of `customer_process.py` and keeps the chunk under way up to date."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[str] = self._loop.create_future()
        """Empty text, or what is wrong with the function."""
        self.asynchronous = False
        self._chunk: Chunk | None = None
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def send(self, frame: bytes, chunk: Chunk) -> asyncio.Future[None]:
        """Send a chunk; the future is done when every rollout has an outcome or the process has ended."""
        self._chunk, self._finished = chunk, self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            self._end("the process had ended before")
        else:
            self._transport.write(frame)
        return self._finished

    def hang_up(self) -> None:
        """Close at once, whatever is still unsent."""
        self._chunk = None
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, _, facts = line.partition(b" ")
            if word:
                self._hear(word.decode(errors="replace"), facts)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the process hung up")

    def _hear(self, word: str, facts: bytes) -> None:
        try:
            known: dict[str, Any] = json.loads(facts)
        except ValueError:  # a line the process could not finish
            return
        match word:
            case "scores" if self._chunk:
                self._record(self._chunk, known["scores"])
            case "ready":
                self.asynchronous = known["asynchronous"]
                self._answer("")
            case "broken":
                self._answer(known["reason"])
            case "ended":
                self._end(f"the function's process ended with {ending(known['status'], known['words'])}")
            case _:
                return

    def _record(self, chunk: Chunk, scores: list[tuple[int, Outcome]]) -> None:
        chunk.outcomes.update(scores)
        if len(chunk.outcomes) == chunk.count and not self._finished.done():
            self._finished.set_result(None)

    def _end(self, why: str) -> None:
        self._answer(f"the process ended while importing it: {why}")
        if self._chunk and not self._finished.done():
            self._chunk.fault = unscored("crash", why, retryable=True)
            self._finished.set_result(None)

    def _answer(self, broken: str) -> None:
        if not self.ready.done():
            self.ready.set_result(broken)
