"""The JSON form of every message: the proto3 mapping, field names as in the protos."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from rlforge.errors import DataError

Kind = TypeVar("Kind", bound=Message)


def to_json(message: Message) -> dict[str, Any]:
    """Plain data for `json.dumps`; lists, maps, numbers and texts are there even when they are empty or 0."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def from_json(data: Any, kind: type[Kind]) -> Kind:
    """The message that plain data says; unknown fields are ignored. Raises DataError when it is not one."""
    if not isinstance(data, dict):
        raise DataError(f"this is no {kind.__name__} but {data!r:.80}; a JSON object is expected")
    try:
        return ParseDict(data, kind(), ignore_unknown_fields=True)
    except (ParseError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"this is no {kind.__name__}: {error}") from error
