"""JSON values as `google.protobuf.Value` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf.struct_pb2 import Struct, Value

from rlforge.errors import DataError

_EXACT = 2**53
"""Whole numbers up to here survive being a double."""


def put_value(given: object, into: Value) -> None:
    """Write a JSON value. Raises DataError for what JSON cannot hold and for whole numbers that would lose digits."""
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
            put_struct(cast(Mapping[object, object], given), into.struct_value)
        case Sequence() if not isinstance(given, bytes | bytearray):
            into.list_value.SetInParent()
            for item in cast(Sequence[object], given):
                put_value(item, into.list_value.values.add())
        case _:
            raise DataError(
                f"a value of type {type(given).__name__} cannot travel; use what JSON can hold: {given!r:.80}"
            )


def put_struct(given: Mapping[Any, Any], into: Struct) -> None:
    """Write a mapping with text keys."""
    for name, item in given.items():
        put_value(item, into.fields[str(name)])


def get_value(value: Value) -> Any:
    """What `put_value` wrote; a whole number is an int."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
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
    """What `put_struct` wrote."""
    return {name: get_value(item) for name, item in struct.fields.items()}


def _number(given: float) -> float:
    if isinstance(given, int) and abs(given) > _EXACT:
        raise DataError(
            f"the whole number {given} has more than 53 bits and would lose digits on the way; send it as text"
        )
    return float(given)
