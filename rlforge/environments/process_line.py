"""Our end of a process that holds worlds: starts it, asks it, and knows how it ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
from typing import Any

from rlforge import errors
from rlforge.deadlines import deadline
from rlforge.environments.frames import frame, heard
from rlforge.errors import DeadlineExceeded, EndpointBroken, RlforgeError
from rlforge.guardian import ending, start_guarded

_START_S = 60.0
"""Importing the user's code may load large libraries."""
_STOP_S = 5.0
_ANSWER_S = 30.0
"""Seconds that a process may hold its interpreter's lock before it counts as hung, once somebody is in doubt."""
_LAST_WORDS_S = 5.0


class ProcessLine:
    """One process, from its start to its end; another takes its place."""

    def __init__(self, label: str, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.ended = ""
        """How it ended, once it has."""
        self._label = label
        self._process = process
        self._line = line
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._doubting: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def start(cls, luggage: bytes, label: str) -> ProcessLine:
        """A process that has the user's thing. Raises ConfigError when it cannot be imported or is no environment."""
        line, their_line = socket.socketpair()
        talk, their_talk = socket.socketpair()
        with their_line, their_talk:
            fd = their_talk.fileno()
            module = "rlforge.environments.world_process"
            process = start_guarded(module, [str(fd)], their_line, [fd], {"PYTHONUNBUFFERED": "1"})
            self = cls(label, process, line)
        try:
            async with deadline(_START_S, f"a process of environment '{label}' to start"):
                await self._begin(talk, luggage)
        except BaseException:
            await self.stop()
            raise
        return self

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """What it answers. Raises the error it says, and EndpointBroken when it ends instead."""
        number = next(self._numbers)
        answer = self._call(number)
        try:
            self.tell(verb, *arguments, number=number)
            return await answer
        finally:
            self._calls.pop(number, None)

    def tell(self, verb: str, *arguments: Any, number: int = -1) -> None:
        """Have it do something, whatever it answers. Raises EndpointBroken when it has ended."""
        if self.ended or self._writer is None:
            raise EndpointBroken(self.ended)
        self._writer.write(frame((number, verb, arguments)))

    def doubt(self) -> None:
        """Find out whether it still moves, and end it when it does not."""
        if self._doubting is None or self._doubting.done():
            self._doubting = asyncio.get_running_loop().create_task(self._prove_alive())

    async def stop(self) -> None:
        """Hang up: the guardian kills the process and all its descendants. May be called twice."""
        self.ended = self.ended or f"environment '{self._label}' is closed"
        self._line.close()
        for task in (self._listening, self._doubting):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._leave()
        try:
            async with deadline(_STOP_S, "a world process to stop"):
                while self._process.poll() is None:  # noqa: ASYNC110  nothing portable tells a loop of an end
                    await asyncio.sleep(0.005)
        except DeadlineExceeded:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def _begin(self, talk: socket.socket, luggage: bytes) -> None:
        reader, self._writer = await asyncio.open_connection(sock=talk)
        ready = self._call(0)
        self._listening = asyncio.get_running_loop().create_task(self._listen(reader))
        self._writer.write(frame(luggage))
        await ready

    def _call(self, number: int) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        return answer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._answer(*await heard(reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended = f"a process of environment '{self._label}' ended; its worlds are gone"
            self.ended = f"{self.ended}: {await self._last_words()}"
            self._leave()

    def _answer(self, number: int, result: Any, error: tuple[str, str] | None) -> None:
        answer = self._calls.get(number)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(_error(*error))

    def _leave(self) -> None:
        """Tell all who wait, and close what is open. The guardian, if it lives, cleans up."""
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(EndpointBroken(self.ended))
        if self._writer is not None:
            self._writer.close()
        self._line.close()

    async def _prove_alive(self) -> None:
        try:
            async with deadline(_ANSWER_S, "a sign of life"):
                await self.ask("ping")
        except DeadlineExceeded:
            self.ended = f"a process of environment '{self._label}' did not move for {_ANSWER_S:g} s and was killed"
            await self.stop()
        except EndpointBroken:
            return

    async def _last_words(self) -> str:
        """What the guardian reports of the end."""
        loop, said = asyncio.get_running_loop(), b""
        self._line.setblocking(False)
        try:
            async with deadline(_LAST_WORDS_S, "the guardian's report"):
                while more := await loop.sock_recv(self._line, 1 << 16):
                    said += more
        except (DeadlineExceeded, OSError):
            pass
        _, found, report = said.rpartition(b"\nended ")
        return ending(**json.loads(report)) if found else "its guardian said nothing"


def _error(kind: str, message: str) -> RlforgeError:
    known = getattr(errors, kind, EndpointBroken)
    return known(message)
