"""Runs code that nobody vouches for, and answers calls of what it defines. Started inside a sandbox.

`solution.py` in the working folder is the code. It sees the arguments of calls, never a test or what it expects.
"""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

from rlforge.sandbox.inside import CHANNEL
from rlforge.sandbox.plain import Line, contents, decode, encode

_objects: list[Any] = []


def main() -> None:
    """Answer until the tests hang up."""
    line = Line(CHANNEL)
    sys.path.insert(0, os.getcwd())
    while True:
        try:
            asked = line.receive()
        except EOFError:
            break
        try:
            answer = {"value": encode(_answer(asked), _refer)}
        except BaseException as error:  # noqa: BLE001  # carried to the tests' process
            answer = {"raised": type(error).__name__, "text": str(error)[:500]}
        line.send(answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that the code left running do not hold the process


def _answer(asked: dict[str, Any]) -> Any:
    target = importlib.import_module("solution") if asked["of"] is None else _objects[asked["of"]]
    arguments = [decode(each, _objects.__getitem__) for each in asked["arguments"]]
    named = {name: decode(each, _objects.__getitem__) for name, each in asked["named"].items()}
    return _DOING[asked["do"]](target, *arguments, **named)


def _refer(value: Any) -> int:
    _objects.append(value)
    return len(_objects) - 1


def _call(target: Any, *arguments: Any, **named: Any) -> Any:
    return target(*arguments, **named)


_DOING: dict[str, Callable[..., Any]] = {
    "call": _call,
    "attribute": getattr,
    "item": operator.getitem,
    "length": len,
    "contains": operator.contains,
    "iterator": iter,
    "next": next,
    "text": str,
    "contents": contents,
}


if __name__ == "__main__":
    main()
