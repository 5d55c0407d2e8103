"""Finds the tests in a source, or in a list of sources, and the names that they use."""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from rlforge.sandbox.remote import Code

MODULE = "solution"
"""The name by which tests import the code."""

Test: TypeAlias = tuple[str, Callable[[], Any]]
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


class Broken(BaseException):
    """The tests themselves are at fault."""


def collect(given: str | list[str], code: Code) -> Iterator[Test]:
    """Names, each another, and tests: of a list its sources, else the functions `test…`, else the asserts of a source.

    Raises Broken for what is no test, or one that would not be run.
    """
    if isinstance(given, list):
        yield from (_of_a_list(f"test {number}", _parsed(source), code) for number, source in enumerate(given, start=1))
        return
    tree = _parsed(given)
    functions = _functions(tree)
    names = _names(tree, code)
    yield from _calls(functions, tree, names) if functions else _asserts(tree, names)


def _of_a_list(name: str, tree: ast.Module, code: Code) -> Test:
    functions = _functions(tree)
    names = _names(tree, code)

    def test() -> None:
        _run(tree.body, names)
        for function in functions:
            _call(names[function])

    return name, test


def _calls(functions: list[str], tree: ast.Module, names: dict[str, Any]) -> Iterator[Test]:
    ready = False

    def test(function: str) -> None:
        nonlocal ready
        if not ready:  # the source runs anew for the next test when it failed
            _run(tree.body, names)
            ready = True
        _call(names[function])

    for function in functions:
        yield function, lambda function=function: test(function)


def _asserts(tree: ast.Module, names: dict[str, Any]) -> Iterator[Test]:
    """Each assert with what stands before it; what stands behind the last is a test too, or belongs to the last."""
    ends = [index + 1 for index, statement in enumerate(tree.body) if isinstance(statement, ast.Assert)]
    last = ends[-1] if ends else 0
    if _judges(tree.body[last:], tree):
        ends.append(len(tree.body))
    elif ends:
        ends[-1] = len(tree.body)
    else:
        raise Broken("there is no test: write functions test_…, assert statements, or a list of sources")
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False), start=1):
        body = tree.body[begin:end]
        shown = next((each for each in body if isinstance(each, ast.Assert)), body[-1])
        yield f"{number}: {ast.unparse(shown).splitlines()[0][:80]}", lambda body=body: _run(body, names)


def _judges(statements: list[ast.stmt], tree: ast.Module) -> bool:
    """Whether statements fail for wrong code: they assert, raise or call a function of the tests, which may."""
    own = {each.name for each in tree.body if isinstance(each, _Function)}
    return any(
        isinstance(node, ast.Assert | ast.Raise)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in own)
        for statement in statements
        if not isinstance(statement, _DEFINING)
        for node in ast.walk(statement)
    )


def _functions(tree: ast.Module) -> list[str]:
    """Names of the test functions. Raises Broken for tests that stand where nobody calls them."""
    found: dict[str, None] = {}
    for each in tree.body:
        if isinstance(each, ast.ClassDef) and any(_is_test(method) for method in each.body):
            raise Broken(f"the tests of class {each.name} would not be run: write functions test_…")
        if isinstance(each, _Function) and _is_test(each):
            _refuse_what_cannot_be_called(each)
            found[each.name] = None
    return list(found)


def _is_test(statement: ast.stmt) -> bool:
    return isinstance(statement, _Function) and statement.name.startswith("test")


def _refuse_what_cannot_be_called(function: _Function) -> None:
    given = function.args
    needed = [each.arg for each in (*given.posonlyargs, *given.args)][: -len(given.defaults) or None]
    needed += [each.arg for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    if isinstance(function, ast.AsyncFunctionDef) or (needed and not function.decorator_list):
        what = f"needs {', '.join(needed)}" if needed else "is async"
        raise Broken(f"{function.name} {what}: a test is a plain function that is called without anything")


def _call(test: Callable[[], Any]) -> None:
    if type(test()) in (types.GeneratorType, types.CoroutineType):
        raise Broken(f"{test.__name__} yields or is async: a test is a plain function that is called without anything")


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise Broken(f"{type(error).__name__}: {error}") from error


def _run(body: list[ast.stmt], names: dict[str, Any]) -> None:
    try:
        program = compile(ast.Module(body=body, type_ignores=[]), "<tests>", "exec")
    except (SyntaxError, ValueError) as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    exec(program, names)


class _Names(dict[str, Any]):
    """Names for tests that import nothing: what nobody defines is looked up in the code at each use."""

    def __init__(self, code: Code, theirs: set[str], known: set[str] | None) -> None:
        super().__init__(__name__="tests")
        self._code = code
        self._theirs = theirs
        self._known = known

    def __missing__(self, name: str) -> Any:
        if name not in self._theirs:
            raise KeyError(name)
        try:
            return self._code.ask("attribute", None, name)
        except AttributeError as error:
            if self._known is not None and name not in self._known:
                raise Broken(f"nothing defines the name '{name}', and it is not imported from {MODULE}") from error
            raise


def _names(tree: ast.Module, code: Code) -> _Names:
    """The code may define a name of Python's own; tests that say `abs` mean Python's all the same."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return _Names(code, used - set(dir(builtins)), _bound(tree) if _says_what_it_imports(tree) else None)


def _says_what_it_imports(tree: ast.Module) -> bool:
    """Whether the tests name what is the code's: another name that nobody defines is then no name of the code's."""
    imports = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) and each.module == MODULE]
    return bool(imports) and all(alias.name != "*" for each in imports for alias in each.names)


def _bound(tree: ast.Module) -> set[str]:
    """All names that the tests define somewhere."""
    return set(_bindings(ast.walk(tree)))


def _bindings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg(arg=name):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case _:
                pass
