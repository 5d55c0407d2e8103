"""The code under test as the tests see it: its objects stay where they are, plain values come through.

Nothing of the code runs here: what an object is equal to is told by plain values alone.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import Any

from rlforge.sandbox.plain import CHANGEABLE, Line, NotPlain, Reference, base_of, decode, encode


class Gone(BaseException):
    """The code does not answer any more; no `except Exception` of a test can make a pass of it."""


class Code:
    """The code, as far as it answers."""

    def __init__(self, line: Line, answered: Callable[[], None]) -> None:
        self._line = line
        self._answered = answered
        self._asked = False
        self.gone = ""
        self.raised: BaseException | None = None
        """What it raised last."""

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
            self._answered()
        return self._value(answer)

    def _value(self, answer: Any) -> Any:
        if isinstance(answer, dict) and "raised" in answer:
            self.raised = _exception(str(answer["raised"]))(str(answer.get("text", "")))
            raise self.raised
        try:
            return decode(answer["value"], self._object)
        except (NotPlain, KeyError, TypeError, RecursionError) as error:
            self._lose(f"the code answered with what makes no sense: {error}")

    def _object(self, number: int, base: str = "", plain: Any = None) -> Any:
        if not base:
            return Remote(self, number)
        if base in _CHANGING:
            return Changing(self, number, _CHANGING[base])
        kind = _FIXED[base]
        if type(plain).__name__ != base:
            raise NotPlain(f"a {base} that is none")
        made = kind.__new__(kind, plain)
        kind.__init__(made, self, number)
        return made

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
        return self._code.ask("call", self.reference_number, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self._code.ask("attribute", self.reference_number, name)

    def __getitem__(self, key: Any) -> Any:
        return self._code.ask("item", self.reference_number, key)

    def __len__(self) -> int:
        return self._code.ask("length", self.reference_number)

    def __contains__(self, item: Any) -> bool:
        return self._code.ask("contains", self.reference_number, item) is True

    def __iter__(self) -> Iterator[Any]:
        iterator = self._code.ask("iterator", self.reference_number)
        while True:
            try:
                item = self._code.ask("next", iterator.reference_number)
            except StopIteration:
                return
            yield item

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return str(self._code.ask("text", self.reference_number))


class Changing(Remote):
    """An object that is a kind of dict, list or set: it is equal to whatever its contents are equal to just then."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # as for every dict, list and set

    def __init__(self, code: Code, number: int, base: type) -> None:
        super().__init__(code, number)
        self._base = base

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # for `isinstance` in tests
        return self._base

    def __eq__(self, other: object) -> bool:
        return _contents(self) == (_contents(other) if issubclass(type(other), Changing) else other)

    def __bool__(self) -> bool:
        return bool(_contents(self))


def _contents(of: Any) -> Any:
    return of._code.ask("contents", of.reference_number)


def _fixed(base: Any) -> Any:
    """A class for objects that are a kind of text, number or tuple: the value itself, with what else they can do."""

    def is_true(self: Any) -> bool:
        return bool(base.__ne__(self, base()))

    return type(f"Remote{base.__name__}", (Remote, base), {"__bool__": is_true})


_CHANGING = {base.__name__: base for base in CHANGEABLE}
_FIXED = {base.__name__: _fixed(base) for base in (str, int, float, tuple, frozenset)}


def _number(value: Any) -> int | None:
    if isinstance(value, Remote):
        return value.reference_number
    if base_of(value) is not None:
        return None
    raise NotPlain(f"the tests pass {value!r:.80} to the code; plain values alone can go there")


def _exception(name: str) -> type[Exception]:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
        return kind
    return type(name if name.isidentifier() else "Raised", (Exception,), {})
