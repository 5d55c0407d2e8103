"""Plain values as JSON, between code that nobody vouches for and the tests that judge it.

What is decoded is built of Python's own types and nothing else: no value can bring behaviour along, an `==` of its own
for instance. Standard library alone: this file is put into sandboxes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

MESSAGE_BYTES = 4 << 20
_DIGITS_BITS = 8192
"""Whole numbers beyond go as hexadecimal digits: Python neither writes nor reads many decimal ones."""


def _items(base: Any) -> Callable[[Any], Any]:
    """A copy of a value of a derived type, made past whatever that type makes of iteration."""
    return lambda value: base(base.__iter__(value))


_CONTENTS: dict[type, Callable[[Any], Any]] = {
    dict: dict.copy,
    list: _items(list),
    tuple: _items(tuple),
    set: _items(set),
    frozenset: _items(frozenset),
    str: str.__str__,
    int: int.__pos__,
    float: float.__pos__,
}
"""How to have what a value of a derived type holds, past what that type makes of it."""
CHANGEABLE = (dict, list, set)


class NotPlain(Exception):
    """A value that cannot travel as it is."""


class Reference:
    """Stands for an object that stays with the code."""

    def __init__(self, number: int) -> None:
        self.reference_number = number


def base_of(value: Any) -> type | None:
    """Which of Python's own types a value is a kind of: of `dict` for a Counter, of `tuple` for a named tuple."""
    return next((base for base in _CONTENTS if issubclass(type(value), base)), None)  # it may lie about its class


def contents(value: Any) -> Any:
    """The dict, list, tuple, set, text or number that a value of a derived type is at bottom."""
    base = base_of(value)
    if base is None:
        raise NotPlain(f"a {type(value).__name__} is no kind of a plain value")
    return _CONTENTS[base](value)


def encode(value: Any, refer: Callable[[Any], int | None]) -> Any:
    """JSON for a value; other objects become the number that `refer` gives, which may raise NotPlain.

    An object of a type derived from a plain one goes with its contents, which alone go where `refer` gives None;
    those that may change are asked for when they are wanted.
    """
    kind = type(value)
    if kind is int and value.bit_length() > _DIGITS_BITS:
        return ["int", format(value, "x")]
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, *(encode(item, refer) for item in value)]
    if kind is dict:
        return ["dict", *([encode(key, refer), encode(item, refer)] for key, item in value.items())]
    if kind in (bytes, bytearray):
        return [kind.__name__, value.hex()]
    if kind is complex:
        return ["complex", value.real, value.imag]
    number = refer(value)
    base = None if isinstance(value, Reference) else base_of(value)
    if base is None:
        return ["object", number]
    if number is None:
        return encode(contents(value), refer)
    return ["kind", base.__name__, number, None if base in CHANGEABLE else encode(contents(value), refer)]


def decode(sent: Any, refer: Callable[..., Any]) -> Any:
    """The value that was encoded. Raises NotPlain for anything else.

    `refer` gives the object of a number; for one of a derived type it is told the plain type and the contents too.
    """
    if not isinstance(sent, list):
        if isinstance(sent, dict):
            raise NotPlain("an answer that makes no sense")
        return sent
    try:
        return _decode(sent, refer)
    except (ValueError, TypeError, IndexError) as error:
        raise NotPlain(f"an answer that makes no sense: {error}") from error


def _decode(sent: list[Any], refer: Callable[..., Any]) -> Any:
    kind, items = sent[0], sent[1:]
    match kind:
        case "list" | "tuple" | "set" | "frozenset":
            make = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]
            return make(decode(item, refer) for item in items)
        case "dict":
            return {decode(key, refer): decode(item, refer) for key, item in items}
        case "bytes":
            return bytes.fromhex(items[0])
        case "bytearray":
            return bytearray.fromhex(items[0])
        case "complex":
            return complex(items[0], items[1])
        case "int":
            return int(items[0], 16)
        case "object":
            return refer(int(items[0]))
        case "kind":
            return refer(int(items[1]), items[0], decode(items[2], refer))
        case _:
            raise NotPlain(f"a value of kind {kind!r:.40}")


class Line:
    """One JSON value a line over a socket."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._incoming = self._socket.makefile("rb")

    def send(self, message: Any) -> None:
        """Raises OSError when the other side is gone."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Any:
        """The next message. Raises EOFError at the end and at what is no message."""
        line = self._incoming.readline(MESSAGE_BYTES)
        try:
            return json.loads(line) if line.endswith(b"\n") else _end()
        except (ValueError, RecursionError) as error:
            raise EOFError("no message") from error


def _end() -> Any:
    raise EOFError
