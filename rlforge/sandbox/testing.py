"""Tests code that nobody vouches for, so that it cannot make a pass of a failure.

The tests and the code run in a sandbox each, and plain values alone go between them: the code cannot read, patch or
end the tests, and it learns the arguments of calls, never what is expected of them.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlforge.errors import DataError
from rlforge.sandbox.detection import run
from rlforge.sandbox.programs import Ended, Execution, Limits, Program
from rlforge.sandbox.running import python
from rlforge.together import end
from rlforge.values import value

_MARGIN_S = 5.0
"""Tests outlive the code by this, so that they can say what failed."""
_LINGER_S = 0.5
_DEFAULTS = Limits()
_HERE = Path(__file__).parent


@value()
class TestReport:
    """How code fared."""

    __test__ = False

    passed: tuple[str, ...]
    """Names of the tests it passed."""
    failed: tuple[tuple[str, str], ...]
    """Name and reason of each other one."""
    output: str = ""
    """What the code printed."""

    @property
    def share(self) -> float:
        """Tests passed of all tests."""
        return len(self.passed) / (len(self.passed) + len(self.failed))

    @property
    def all_passed(self) -> bool:
        """Whether none failed."""
        return not self.failed


async def run_tests(code: str, tests: str | Sequence[str], limits: Limits = _DEFAULTS) -> TestReport:
    """Run `tests` against `code`, which they may import as `solution` or use by its names.

    Tests are the functions `test…` of a source, or else its assert statements; of a list each source is one test.
    Code that hangs, crashes or ends itself fails the tests that are left. Raises DataError when the tests are at
    fault, SandboxError when the sandbox is.
    """
    given = tests if isinstance(tests, str) else list(tests)
    theirs, ours = socket.socketpair()
    solution = {"solution.py": code, **_shipped("subject")}
    subject = Program(command=python("-m", "rlforge.sandbox.subject"), files=solution)
    files = {"tests.json": json.dumps(given), **_shipped("examiner", "collecting", "remote")}
    examiner = Program(command=python("-m", "rlforge.sandbox.examiner"), files=files)
    longer = replace(limits, wall_s=limits.wall_s + _MARGIN_S, cpu_s=limits.cpu_s + _MARGIN_S, output_bytes=4 << 20)
    with theirs, ours:
        tested = asyncio.create_task(run(subject, limits, channel=theirs))
        told = asyncio.create_task(run(examiner, longer, channel=ours))
        try:
            done, _ = await asyncio.wait({tested, told}, return_when=asyncio.FIRST_COMPLETED)
            if tested in done:
                tested.result()
            execution = await told
            await asyncio.wait({tested}, timeout=_LINGER_S)  # it ends when the tests hang up, unless it refuses to
            subjected = tested.result() if tested.done() else None
        finally:
            await end((tested, told))
    return _report(execution, subjected)


async def run_cases(code: str, cases: Sequence[Mapping[str, Any]], limits: Limits = _DEFAULTS) -> TestReport:
    """Run a program once for each case, `{"stdin": …, "stdout": …}`, one after another, each within the limits.

    What it prints must equal `stdout`, white space at the ends of lines and of the whole apart. The first case that
    runs out of time fails those that are left too: a program that hangs would take as long for each. Raises DataError
    for a case without `stdout`, SandboxError when the sandbox fails.
    """
    _refuse_what_is_no_case(cases)
    passed: list[str] = []
    failed: list[tuple[str, str]] = []
    printed: list[str] = []
    late = ""
    for number, case in enumerate(cases, start=1):
        if late:
            failed.append((f"case {number}", late))
            continue
        program = Program(command=python("main.py"), files={"main.py": code}, stdin=str(case.get("stdin", "")))
        execution = await run(program, limits)
        said = execution.stdout.decode(errors="replace")
        printed.append(said + execution.stderr.decode(errors="replace"))
        if execution.ok and _lines(said) == _lines(case["stdout"]):
            passed.append(f"case {number}")
        else:
            failed.append((f"case {number}", "printed something else" if execution.ok else execution.words))
        if execution.ended in (Ended.WALL_TIME, Ended.CPU_TIME):
            late = f"not run: case {number} {execution.words}"
    return TestReport(passed=tuple(passed), failed=tuple(failed), output="".join(printed))


def _refuse_what_is_no_case(cases: Sequence[Mapping[str, Any]]) -> None:
    for number, case in enumerate(cases, start=1):
        if not isinstance(case.get("stdout"), str):
            raise DataError(f"case {number} of the tests has no text 'stdout': {dict(case)!r:.200}")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _shipped(*scripts: str) -> dict[str, str]:
    """A script of ours with what it imports, to be put into a sandbox where nothing else of rlforge is."""
    names = ("inside", "plain", *scripts)
    own = {f"rlforge/sandbox/{name}.py": (_HERE / f"{name}.py").read_text(encoding="utf-8") for name in names}
    return {"rlforge/__init__.py": "", "rlforge/sandbox/__init__.py": "", **own}


def _report(told: Execution, subjected: Execution | None) -> TestReport:
    facts: dict[str, Any] = {}
    passed: list[str] = []
    reasons: dict[str, str] = {}
    for line in told.stdout.decode().splitlines():
        said = _parsed(line)
        facts |= said
        if "passed" in said:
            passed.append(said["passed"])
        if "failed" in said:
            reasons[said["failed"]] = said["why"]
    if "broken" in facts or "tests" not in facts:
        why = facts.get("broken") or f"{told.words} {told.stderr.decode(errors='replace').strip()[-300:]}"
        raise DataError(f"the tests are at fault: {why}")
    if told.ended is not Ended.EXITED and "asked" not in facts:
        raise DataError(f"the tests are at fault: they {told.words} before they asked anything of the code")
    death = subjected.words if subjected and subjected.ended is not Ended.EXITED else ""
    missing = f"the test did not end: {told.words}"
    left = [name for name in facts["tests"] if name not in passed]
    failed = tuple((name, _why(reasons.get(name, missing), death)) for name in left)
    output = subjected.stdout + subjected.stderr if subjected else b""
    return TestReport(passed=tuple(passed), failed=failed, output=output.decode(errors="replace"))


def _why(reason: str, death: str) -> str:
    return f"{reason}: the code {death}" if death and "ended its process" in reason else reason


def _parsed(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:  # cut short
        return {}
