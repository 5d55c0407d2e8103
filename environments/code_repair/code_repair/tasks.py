"""Tasks: a function with a bug, some tests to be seen and more that are not; the same on every machine."""

import ast
import inspect
import random
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

from code_repair import functions
from code_repair.bugs import bugs
from rlforge.types import Message, Task

VISIBLE, HIDDEN = 4, 16
_STEPS = 1000
"""Lines that a call may run: a bug that never ends is left out."""
_PROMPT = """The function `{name}` has one bug. It should return this: {does}

Look at the code with `read`, run the tests with `test`, change the code with `replace` or `write`, and hand it in \
with `submit` when it is right. More tests than you can see decide."""


@cache
def tasks_of(split: str) -> tuple[Task, ...]:
    """The tasks of `train` or `test`. Raises ValueError for another split."""
    if split not in ("train", "test"):
        raise ValueError(f"there is no split '{split}'; there are train and test")
    right = [each for _, each in inspect.getmembers(functions, inspect.isfunction)]
    mine = [each for each in right if (each.__name__ in functions.TEST) == (split == "test")]
    made = [task for each in mine for task in _tasks(each, split)]
    random.Random(split).shuffle(made)
    return tuple(made)


def _tasks(right: Callable[..., Any], split: str) -> list[Task]:
    """One task for each bug that the tests to be seen show."""
    source = ast.unparse(ast.parse(inspect.getsource(right))) + "\n"
    made: list[Task] = []
    for number, broken in enumerate(dict.fromkeys(bugs(source))):
        name = f"{split}/{right.__name__}/{number}"
        calls = _calls(right, broken, random.Random(name))
        if calls and broken != source:
            told = _PROMPT.format(name=right.__name__, does=inspect.getdoc(right))
            info = {
                "broken": broken,
                "visible": _tests(right, calls[:VISIBLE]),
                "tests": _tests(right, calls),
            }
            made.append(Task(id=name, messages=(Message.of("user", told),), answer=source, info=info))
    return made


def _calls(right: Callable[..., Any], broken: str, rng: random.Random) -> list[list[Any]]:
    """Arguments for the tests, one that shows the bug first; empty where none does within fifty tries."""
    wrong = _defined(broken, right.__name__)
    kinds = [str(parameter.annotation) for parameter in inspect.signature(right).parameters.values()]
    drawn = [[_value(kind, rng) for kind in kinds] for _ in range(50)]
    outcomes: list[str] = []
    for arguments in drawn:
        outcomes.append(_outcome(wrong, arguments))
        if outcomes[-1] == "endless":
            return []
    telling = [a for a, outcome in zip(drawn, outcomes, strict=True) if outcome != repr(right(*a))]
    if not telling:
        return []
    others = [arguments for arguments in drawn if arguments is not telling[0]]
    visible = [telling[0], *others[: VISIBLE - 1]]
    rng.shuffle(visible)
    return (visible + telling[1:3] + others[VISIBLE - 1 :])[: VISIBLE + HIDDEN]


def _value(kind: str, rng: random.Random) -> Any:
    match kind:
        case "<class 'int'>":
            return rng.choice([rng.randint(-6, 24), rng.randint(0, 6)])
        case "<class 'str'>":
            return "".join(rng.choice("aabbcdeXY ") for _ in range(rng.randint(0, 9)))
        case "list[int]":
            return [rng.randint(-9, 9) for _ in range(rng.randint(0, 7))]
        case _:
            raise ValueError(f"no values for parameters of type {kind}")


def _defined(source: str, name: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "<bug>", "exec"), names)
    return names[name]


def _outcome(function: Callable[..., Any], arguments: list[Any]) -> str:
    """What a call returns or raises, as text; `endless` when it runs too many lines."""
    left = _STEPS

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TimeoutError
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        return repr(function(*[list(each) if isinstance(each, list) else each for each in arguments]))
    except TimeoutError:
        return "endless"
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, NameError) as error:
        return type(error).__name__
    finally:
        sys.settrace(before)


def _tests(right: Callable[..., Any], calls: list[list[Any]]) -> str:
    """Functions that each compare one call with what it should return."""
    parts: list[str] = []
    for number, arguments in enumerate(calls, start=1):
        call = f"{right.__name__}({', '.join(map(repr, arguments))})"
        parts.append(
            f"def test_{number}():\n    got = {call}\n    expected = {right(*arguments)!r}\n"
            f"    assert got == expected and type(got) is type(expected), "
            f"f{(call + ' gave {got!r}, expected {expected!r}')!r}\n"
        )
    return "\n".join(parts)
