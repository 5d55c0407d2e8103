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


class NotPlain(Exception):
    """A value that cannot travel as it is."""


class Reference:
    """Stands for an object that stays with the code."""

    def __init__(self, number: int) -> None:
        self.number = number


def encode(value: Any, refer: Callable[[Any], int]) -> Any:
    """JSON for a value; other objects become the number that `refer` gives, which may raise NotPlain."""
    kind = type(value)
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
    return ["object", refer(value)]


def decode(sent: Any, refer: Callable[[int], Any]) -> Any:
    """The value that was encoded. Raises NotPlain for anything else."""
    if not isinstance(sent, list):
        if isinstance(sent, dict):
            raise NotPlain("an answer that makes no sense")
        return sent
    try:
        return _decode(sent, refer)
    except (ValueError, TypeError, IndexError) as error:
        raise NotPlain(f"an answer that makes no sense: {error}") from error


def _decode(sent: list[Any], refer: Callable[[int], Any]) -> Any:
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
        case "object":
            return refer(int(items[0]))
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
