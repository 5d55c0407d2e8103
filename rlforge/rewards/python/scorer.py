"""Scores rollouts with a customer's Python function, which runs in a process of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from rlforge.errors import ConfigError, ExtensionError, boundary
from rlforge.rewards.config import ScorerConfig
from rlforge.rewards.outcomes import Outcome, unscored
from rlforge.rewards.python.customer import Instructions
from rlforge.rewards.python.function_process import Chunk, FunctionProcess
from rlforge.rewards.python.progress import CHUNK
from rlforge.together import end
from rlforge.types import Rollout, Score


class PythonScorer:
    """`reward(rollout)`, plain or `async`. It returns a number, a dict of components, or None for no opinion.

    Time and memory are limited; when the function overruns, its process is killed with all that it started, and only
    the rollout it was working on is left unscored. What it prints is kept with the score.
    """

    class Config(ScorerConfig):
        """Which function, and within which limits."""

        type: str = "python"
        function: str
        """`file.py:name`, or `package.module:name` importable from the current folder."""
        options: dict[str, Any] = Field(default_factory=lambda: dict[str, Any]())
        """Keyword arguments passed at every call; JSON values only."""
        batch: bool = False
        """Whether the function takes a list of rollouts and returns a list of results; `timeout_s` is then per rollout
        of the list."""
        workers: int = Field(1, ge=1)
        """Processes that run the function side by side; a function with a state of its own wants one."""
        concurrency: int = Field(16, ge=1)
        """Calls under way at once in each process, where the function is `async`."""
        memory_bytes: int = Field(4 << 30, ge=64 << 20)
        """Memory that each process may allocate."""
        output_chars: int = Field(2000, ge=0)
        """Printed characters kept per rollout."""

        @field_validator("function")
        @classmethod
        def _names_both(cls, function: str) -> str:
            place, _, name = function.rpartition(":")
            if not place or not name.isidentifier():
                raise ValueError(f"function={function!r} does not name a function; write file.py:name or module:name")
            return function

        @property
        def instructions(self) -> Instructions:
            """What the function's process needs to know."""
            return Instructions(
                function=self.function,
                options=self.options,
                batch=self.batch,
                timeout_s=self.timeout_s,
                memory_bytes=self.memory_bytes,
                output_chars=self.output_chars,
                concurrency=self.concurrency,
            )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label
        self._processes = [FunctionProcess(config.instructions, self.name) for _ in range(config.workers)]
        self._servers: list[asyncio.Task[None]] = []
        self._jobs: deque[_Job] = deque()
        self._work = asyncio.Event()

    async def start(self) -> None:
        """Start the processes. Raises ConfigError when the function cannot be imported or called."""
        started = await asyncio.gather(*(process.start() for process in self._processes), return_exceptions=True)
        failed = [outcome for outcome in started if isinstance(outcome, BaseException)]
        if failed:
            await self.close()
            raise failed[0]
        self._servers = [asyncio.create_task(self._serve(process)) for process in self._processes]

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        if not self._servers:
            raise ExtensionError(f"scorer '{self.name}' was asked before start() or after close()")
        loop = asyncio.get_running_loop()
        jobs = [_Job(rollout, loop.create_future()) for rollout in rollouts]
        self._jobs.extend(jobs)
        self._work.set()
        return [self._as_score(await job.outcome) for job in jobs]

    async def close(self) -> None:
        """Kill the processes and everything they started; what they had not judged by then is unscored."""
        servers, self._servers = self._servers, []
        await end(servers)
        await asyncio.gather(*(process.stop() for process in self._processes))
        while self._jobs:
            self._jobs.popleft().settle(unscored("cancelled", "the scorer was closed"))

    async def _serve(self, process: FunctionProcess) -> None:
        """Take jobs for one process until cancelled."""
        while True:
            while not self._jobs:
                self._work.clear()
                await self._work.wait()
            jobs = self._take()
            try:
                with boundary(f"scorer '{self.name}'"):
                    chunk = await process.run([job.rollout for job in jobs])
            except asyncio.CancelledError:
                self._jobs.extendleft(reversed(jobs))
                raise
            except (ConfigError, ExtensionError) as error:  # no new process could be started
                for job in jobs:
                    job.settle(unscored("crash", str(error), retryable=True))
            else:
                self._settle(jobs, chunk)

    def _take(self) -> list[_Job]:
        """The next chunk: a suspect alone; others together, ever fewer when several processes share them."""
        waiting, workers = len(self._jobs), self.config.workers
        share = waiting if workers == 1 else -(-waiting // (2 * workers))
        taken = [self._jobs.popleft()]
        while self._jobs and len(taken) < min(share, CHUNK) and not (taken[0].suspect or self._jobs[0].suspect):
            taken.append(self._jobs.popleft())
        return taken

    def _settle(self, jobs: Sequence[_Job], chunk: Chunk) -> None:
        """Hand out outcomes. When the process ended with one rollout in hand, that one is to blame.

        With several in hand, each is tried again alone; those that were not begun go back to the queue as they are.
        """
        for index, outcome in chunk.outcomes.items():
            jobs[index].settle(outcome)
        if chunk.fault is None:
            return
        begun = chunk.begun
        for index in reversed([index for index in range(chunk.count) if index not in chunk.outcomes]):
            job = jobs[index]
            if begun == [index] or (not begun and job.suspect):
                job.settle(chunk.fault)
                continue
            job.suspect = job.suspect or not begun or index in begun
            self._jobs.appendleft(job)

    def _as_score(self, outcome: Outcome) -> Score:
        return Score(scorer=self.name, **outcome)


@dataclass(slots=True)
class _Job:
    """A rollout on its way to a process."""

    rollout: Rollout
    outcome: asyncio.Future[Outcome]
    suspect: bool = False
    """Whether it may have ended a process: it is then tried alone."""

    def settle(self, outcome: Outcome) -> None:
        """Give the one who waits the outcome, if anybody still does."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


def check_function(config: PythonScorer.Config) -> None:
    """Really import the function, as training would. Raises ConfigError that says what is wrong with it."""

    async def check() -> None:
        scorer = PythonScorer(config)
        await scorer.start()
        await scorer.close()

    asyncio.run(check())
