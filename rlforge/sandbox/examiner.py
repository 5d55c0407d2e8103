"""Runs tests against code that lives in another sandbox. Started inside a sandbox of its own.

`tests.json` in the working folder holds the tests. One JSON object a line goes to standard output: `tests` (their
names) once, `asked` once the code has answered, `passed` or `failed` for each, `broken` when the tests are at fault.
"""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlforge.sandbox.collecting import MODULE, Broken, collect
from rlforge.sandbox.inside import CHANNEL
from rlforge.sandbox.plain import Line, NotPlain
from rlforge.sandbox.remote import Code, Gone


class Report:
    """Where results go: standard output as it was before tests could print."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **facts: Any) -> None:
        """One line, at once."""
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()


def main() -> None:
    """Run every test and say how it went."""
    report = Report()
    code = Code(Line(CHANNEL), lambda: report.say(asked=True))
    module = types.ModuleType(MODULE)
    module.__getattr__ = lambda name: _public(code, name)  # type: ignore[method-assign]
    sys.modules[MODULE] = module
    given = json.loads(Path("tests.json").read_text())
    try:
        tests = list(collect(given, code))
        report.say(tests=[name for name, _ in tests])
        for name, test in tests:
            report.say(**_outcome(name, test, code))
    except (Broken, NotPlain) as error:
        report.say(broken=f"{type(error).__name__}: {error}")


def _public(code: Code, name: str) -> Any:
    if name.startswith("__"):  # what Python itself looks for in a module
        raise AttributeError(name)
    return code.ask("attribute", None, name)


def _outcome(name: str, test: Callable[[], Any], code: Code) -> dict[str, Any]:
    try:
        test()
    except (Broken, NotPlain):
        raise
    except Gone as gone:
        return {"failed": name, "why": str(gone)}
    except BaseException as error:  # whatever a test raises is reported to another process
        if isinstance(error, ImportError) and error is not code.raised and error.name != MODULE:
            raise Broken(f"{type(error).__name__}: {error}") from error
        return {"failed": name, "why": f"{type(error).__name__}: {error}"[:300]}
    return {"failed": name, "why": code.gone} if code.gone else {"passed": name}


if __name__ == "__main__":
    main()
