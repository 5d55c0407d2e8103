"""Scores the code in a rollout's last reply by the tests it passes, in a sandbox."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import Field

from rlforge.errors import ConfigError, DataError, SandboxError
from rlforge.rewards.config import ScorerConfig
from rlforge.sandbox.detection import isolation
from rlforge.sandbox.programs import Isolation, Limits
from rlforge.sandbox.testing import TestReport, run_cases, run_tests
from rlforge.types import Rollout, Score

CODE = "{code}"
"""Stands for the reply's code inside a template."""
_FENCED = re.compile(r"^```[^\n`]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_KEPT_APART = (Isolation.NAMESPACES, Isolation.BUBBLEWRAP)


class UnitTestsScorer:
    """Value: the share of tests passed, or 1 for all of them and else 0. Code without a chance to answer fails them.

    The tests are in the task, under `info.tests`: a Python source with functions `test…` or assert statements, a list
    of such sources, or a list of `{"stdin": …, "stdout": …}` for whole programs. They run beside the code, out of
    its reach. When the sandbox or the tests are at fault the rollout is unscored.
    """

    class Config(ScorerConfig):
        """Where code and tests are, and what the code may use."""

        type: str = "unit_tests"
        tests: str = "tests"
        """Name of the tests in the task's `info`."""
        code: Literal["last_block", "first_block", "whole"] = "last_block"
        """Which part of the reply is the code: a fenced block (a reply without one scores 0), or all of it."""
        template: str = CODE
        """Text around the code, which stands at `{code}`: imports, or the head of a function."""
        all_or_nothing: bool = False
        """Whether one failed test makes the value 0."""
        timeout_s: float = Field(10.0, gt=0, allow_inf_nan=False)
        """Seconds the code may take for all tests, or for one case; the tests that are left then count as failed."""
        memory_bytes: int = Field(1 << 30, ge=64 << 20)
        """Memory the code may take."""
        concurrency: int = Field(2, ge=1)
        """Rollouts tested at once by each router."""
        output_chars: int = Field(2000, ge=0)
        """Printed characters kept per rollout."""
        require_isolation: bool = False
        """Whether to refuse to start where the system allows no namespaces; otherwise a warning says so."""

        def longest_s(self, rollout: Rollout) -> float:
            """Each case may take nearly all of `timeout_s`; the first that takes more ends the others."""
            tests = rollout.task.info.get(self.tests)
            return self.timeout_s * (len(cast(Sequence[Any], tests)) if _are_cases(tests) else 1)

        @property
        def limits(self) -> Limits:
            """What the code may use."""
            return Limits(wall_s=self.timeout_s, cpu_s=self.timeout_s, memory_bytes=self.memory_bytes)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label
        self._slots = asyncio.Semaphore(config.concurrency)

    async def start(self) -> None:
        """Try the sandbox. Raises ConfigError where it is weaker than required, SandboxError where there is none."""
        level = await isolation()
        if self.config.require_isolation and level not in _KEPT_APART:
            raise ConfigError(
                f"scorer '{self.name}': require_isolation=true, and this system allows '{level}' alone; "
                "allow user namespaces, install bubblewrap, or set it to false"
            )

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order."""
        return list(await asyncio.gather(*(self._score(rollout) for rollout in rollouts)))

    async def close(self) -> None:
        """Nothing to stop: a sandbox ends with the call that made it."""

    async def _score(self, rollout: Rollout) -> Score:
        tests = rollout.task.info.get(self.config.tests)
        if not tests:
            why = f"task '{rollout.task.id}' has no tests: nothing under info.{self.config.tests}"
            return Score(scorer=self.name, error_kind="no_tests", reason=why)
        code = extract(rollout.text, self.config.code)
        if code is None:
            return Score(scorer=self.name, value=0.0, reason="the reply has no fenced block of code")
        async with self._slots:
            started = time.perf_counter()
            try:
                report = await self._run(self.config.template.replace(CODE, code), tests)
            except DataError as error:
                return self._unscored("malformed", f"task '{rollout.task.id}': {error}", started)
            except SandboxError as error:
                return self._unscored("sandbox", str(error), started, retryable=True)
        return self._scored(report, time.perf_counter() - started)

    async def _run(self, code: str, tests: object) -> TestReport:
        listed = cast(Sequence[Any], tests if isinstance(tests, Sequence) else ())
        if _are_cases(tests):
            return await run_cases(code, listed, self.config.limits)
        if listed and all(isinstance(each, str) for each in listed):
            return await run_tests(code, listed, self.config.limits)
        raise DataError(f"tests are a source, a list of sources or a list of cases, not {tests!r:.80}")

    def _scored(self, report: TestReport, seconds: float) -> Score:
        failed = "; ".join(f"{name}: {why}" for name, why in report.failed[:3])
        total = len(report.passed) + len(report.failed)
        return Score(
            scorer=self.name,
            value=float(report.all_passed) if self.config.all_or_nothing else report.share,
            components={"tests_passed": float(len(report.passed)), "tests_total": float(total)},
            reason=f"{len(report.passed)} of {total} tests passed" + (f"; {failed}" if failed else ""),
            seconds=seconds,
            output=report.output[: self.config.output_chars],
        )

    def _unscored(self, kind: str, why: str, started: float, *, retryable: bool = False) -> Score:
        seconds = time.perf_counter() - started
        return Score(scorer=self.name, error_kind=kind, reason=why, retryable=retryable, seconds=seconds)


def _are_cases(tests: object) -> bool:
    """Whether they are for whole programs, rather than sources."""
    listed = cast(Sequence[object], tests if isinstance(tests, Sequence) else ())
    return len(listed) > 0 and all(isinstance(each, Mapping) for each in listed)


def extract(reply: str, part: Literal["last_block", "first_block", "whole"]) -> str | None:
    """The code in a reply; None where it should be fenced and is not."""
    if part == "whole":
        return reply
    blocks = _FENCED.findall(reply)
    return (blocks[-1] if part == "last_block" else blocks[0]) if blocks else None
