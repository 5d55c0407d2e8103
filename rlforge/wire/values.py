"""JSON values as `google.protobuf.Value` and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf.struct_pb2 import Struct, Value

from rlforge.errors import DataError

_EXACT = 2**53
"""Whole numbers up to here survive being a double."""
DEEPEST = 24
"""Lists and mappings within one another; each takes up to three of the 100 messages that readers of protobuf follow."""


def put_value(given: object, into: Value, *, depth: int = 0) -> None:
    """Write a JSON value.

    Raises DataError for what JSON cannot hold, for whole numbers that would lose digits, and for what is nested deeper
    than `DEEPEST`; `depth` says how deep `into` is already.
    """
    if depth > DEEPEST:
        raise DataError(f"a value is nested more than {DEEPEST} levels deep and could not be read; flatten it")
    match given:
        case None:
            into.null_value = 0  # pyright: ignore[reportAttributeAccessIssue]  # the enum's only member
        case bool():
            into.bool_value = given
        case int() | float():
            into.number_value = _number(given)
        case str():
            into.string_value = given
        case Mapping():
            into.struct_value.SetInParent()
            put_struct(cast(Mapping[object, object], given), into.struct_value, depth=depth + 1)
        case Sequence() if not isinstance(given, bytes | bytearray):
            into.list_value.SetInParent()
            for item in cast(Sequence[object], given):
                put_value(item, into.list_value.values.add(), depth=depth + 1)
        case _:
            raise DataError(
                f"a value of type {type(given).__name__} cannot travel; use what JSON can hold: {given!r:.80}"
            )


def put_struct(given: Mapping[Any, Any], into: Struct, *, depth: int = 1) -> None:
    """Write a mapping with text keys. Raises DataError for other keys, and as `put_value` does."""
    for name, item in given.items():
        if not isinstance(name, str):
            raise DataError(f"a mapping has the key {name!r:.80}; JSON has only text keys, so write it as text")
        put_value(item, into.fields[name], depth=depth)


def get_value(value: Value) -> Any:
    """What `put_value` wrote; a whole number is an int. Raises DataError for a number that is not finite."""
    match value.WhichOneof("kind"):
        case "number_value":
            return _whole(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return get_struct(value.struct_value)
        case "list_value":
            return [get_value(item) for item in value.list_value.values]
        case _:
            return None


def get_struct(struct: Struct) -> dict[str, Any]:
    """What `put_struct` wrote, by name: a Struct has no order of its own, and every process would read another one."""
    return {name: get_value(item) for name, item in sorted(struct.fields.items())}


def _number(given: float) -> float:
    if isinstance(given, int) and abs(given) > _EXACT:
        raise DataError(
            f"the whole number {given} has more than 53 bits and would lose digits on the way; send it as text"
        )
    return _finite(float(given))


def _whole(number: float) -> float:
    return int(number) if _finite(number).is_integer() and abs(number) <= _EXACT else number


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise DataError(f"a value is {number}, which JSON cannot hold; leave it out, or send it as text")
    return number
