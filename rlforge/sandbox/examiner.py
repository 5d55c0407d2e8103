"""Runs tests against code that lives in another sandbox. Started inside a sandbox of its own.

`tests.json` in the working folder holds the tests. One JSON object a line goes to standard output: `tests` (their
names) once, `asked` once the code has answered, `passed` or `failed` for each, `broken` when the tests are at fault.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlforge.sandbox.inside import CHANNEL
from rlforge.sandbox.plain import Line, NotPlain, Reference, decode, encode

MODULE = "solution"
"""The name by which tests import the code."""


class Gone(BaseException):
    """The code does not answer any more; no `except Exception` of a test can make a pass of it."""


class Broken(BaseException):
    """The tests themselves are at fault."""


class Report:
    """Where results go: standard output as it was before tests could print."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **facts: Any) -> None:
        """One line, at once."""
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()


class Code:
    """The code, as far as it answers."""

    def __init__(self, line: Line, report: Report) -> None:
        self._line = line
        self._report = report
        self._asked = False
        self.gone = ""

    def ask(self, do: str, of: int | None, *arguments: Any, **named: Any) -> Any:
        """Have something done there: a value, a Remote object, or the exception it raised."""
        if self.gone:
            raise Gone(self.gone)
        given = [encode(each, _number) for each in arguments]
        request = {"do": do, "of": of, "arguments": given, "named": {k: encode(v, _number) for k, v in named.items()}}
        try:
            self._line.send(request)
            answer = self._line.receive()
        except (OSError, EOFError):
            return self._lose("the code ended its process, or was ended, before it answered")
        if not self._asked:
            self._asked = True
            self._report.say(asked=True)
        return self._value(answer)

    def _value(self, answer: Any) -> Any:
        if isinstance(answer, dict) and "raised" in answer:
            raise _exception(str(answer["raised"]))(str(answer.get("text", "")))
        try:
            return decode(answer["value"], lambda number: Remote(self, number))
        except (NotPlain, KeyError, TypeError, RecursionError) as error:
            self._lose(f"the code answered with what makes no sense: {error}")

    def _lose(self, why: str) -> Any:
        self.gone = why
        raise Gone(why)


class Remote(Reference):
    """An object of the code. It is equal to itself alone: what it says about equality is not asked."""

    def __init__(self, code: Code, number: int) -> None:
        super().__init__(number)
        self._code = code

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it there."""
        return self._code.ask("call", self.number, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self._code.ask("attribute", self.number, name)

    def __getitem__(self, key: Any) -> Any:
        return self._code.ask("item", self.number, key)

    def __len__(self) -> int:
        return self._code.ask("length", self.number)

    def __contains__(self, item: Any) -> bool:
        return self._code.ask("contains", self.number, item) is True

    def __iter__(self) -> Iterator[Any]:
        iterator = self._code.ask("iterator", self.number)
        while True:
            try:
                item = self._code.ask("next", iterator.number)
            except StopIteration:
                return
            yield item

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return str(self._code.ask("text", self.number))


def main() -> None:
    """Run every test and say how it went."""
    report = Report()
    code = Code(Line(CHANNEL), report)
    module = types.ModuleType(MODULE)
    module.__getattr__ = lambda name: _public(code, name)  # type: ignore[method-assign]
    sys.modules[MODULE] = module
    given = json.loads(Path("tests.json").read_text())
    try:
        tests = list(_tests(given, code))
        report.say(tests=[name for name, _ in tests])
        for name, test in tests:
            report.say(**_outcome(name, test, code))
    except (Broken, SyntaxError, NotPlain) as error:
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
    except BaseException as error:  # noqa: BLE001  # whatever a test raises is reported to another process
        return {"failed": name, "why": f"{type(error).__name__}: {error}"[:300]}
    return {"failed": name, "why": code.gone} if code.gone else {"passed": name}


def _tests(given: str | list[str], code: Code) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names and tests of a list of sources (each one test), of functions `test_…`, or of the asserts of a source."""
    if isinstance(given, list):
        for number, source in enumerate(given, start=1):
            tree = ast.parse(source)
            yield f"test {number}", lambda tree=tree: _run(tree.body, _names(tree, code))
        return
    tree = ast.parse(given)
    found = [each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test")]
    namespace = Namespace(tree, code)
    if found:
        yield from ((name, lambda name=name: namespace.after(tree.body)[name]()) for name in found)
        return
    begin = 0
    for index, statement in enumerate(tree.body):
        if isinstance(statement, ast.Assert):
            body = tree.body[begin : index + 1]
            yield ast.unparse(statement)[:80], lambda body=body: _run(body, namespace.names)
            begin = index + 1
    if not begin:
        raise Broken("there is no test: write functions test_…, assert statements, or a list of sources")


class Namespace:
    """What the tests of one source share."""

    def __init__(self, tree: ast.Module, code: Code) -> None:
        self.names = _names(tree, code)
        self._ready = False

    def after(self, body: list[ast.stmt]) -> dict[str, Any]:
        """The names once a body has run; it runs anew for the next test when it failed."""
        if not self._ready:
            _run(body, self.names)
            self._ready = True
        return self.names


def _run(body: list[ast.stmt], names: dict[str, Any]) -> None:
    exec(compile(ast.Module(body=body, type_ignores=[]), "<tests>", "exec"), names)


class Names(dict[str, Any]):
    """Names for tests that import nothing: what nobody defines is looked up in the code at each use."""

    def __init__(self, code: Code, theirs: set[str]) -> None:
        super().__init__(__name__="tests")
        self._code = code
        self._theirs = theirs

    def __missing__(self, name: str) -> Any:
        if name not in self._theirs:
            raise KeyError(name)
        return self._code.ask("attribute", None, name)


def _names(tree: ast.Module, code: Code) -> Names:
    """The code may define a name of Python's own; tests that say `abs` mean Python's all the same."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return Names(code, used - set(dir(builtins)))


def _number(value: Any) -> int:
    if isinstance(value, Remote):
        return value.number
    raise NotPlain(f"the tests pass {value!r:.80} to the code; plain values alone can go there")


def _exception(name: str) -> type[Exception]:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
        return kind
    return type(name if name.isidentifier() else "Raised", (Exception,), {})


if __name__ == "__main__":
    main()
