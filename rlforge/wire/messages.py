"""Messages, tool calls and tools on the wire."""

from __future__ import annotations

from typing import Literal, cast, get_args

from rlforge.errors import DataError
from rlforge.types import ContentPart, ImagePart, JsonPart, Message, TensorPart, TextPart, ToolCall, ToolSpec
from rlforge.wire.pb import types_pb2 as pb
from rlforge.wire.refusal import refuses
from rlforge.wire.values import get_struct, get_value, put_struct, put_value

Role = Literal["system", "user", "assistant", "tool"]
_ROLES = frozenset(get_args(Role))


@refuses("a message")
def encode_message(message: Message) -> pb.Message:
    """A message of a conversation."""
    sent = pb.Message()
    put_message(message, sent)
    return sent


def put_message(message: Message, into: pb.Message) -> None:
    """Write a message where it is to stand: a message that is made apart is copied once for each level around it."""
    into.role = message.role
    for part in message.content:
        _put_part(part, into.content.add())
    for call in message.tool_calls:
        into.tool_calls.add(id=call.id, name=call.name, arguments=call.arguments)
    if message.tool_call_id is not None:
        into.tool_call_id = message.tool_call_id


def decode_message(message: pb.Message) -> Message:
    """The message that was sent. Raises DataError for a role or a part that is none."""
    if message.role not in _ROLES:
        raise DataError(f"a message has the role '{message.role}'; it must be one of {', '.join(get_args(Role))}")
    return Message(
        role=cast(Role, message.role),
        content=tuple([_decode_part(part) for part in message.content]),
        tool_calls=tuple([_decode_call(call) for call in message.tool_calls]) if message.tool_calls else (),
        tool_call_id=message.tool_call_id if message.HasField("tool_call_id") else None,
    )


@refuses("a tool")
def encode_tool(tool: ToolSpec) -> pb.ToolSpec:
    """A tool the model may call."""
    sent = pb.ToolSpec()
    put_tool(tool, sent)
    return sent


def put_tool(tool: ToolSpec, into: pb.ToolSpec) -> None:
    """Write a tool where it is to stand."""
    into.name = tool.name
    into.description = tool.description
    if tool.parameters:
        put_struct(tool.parameters, into.parameters)


def decode_tool(tool: pb.ToolSpec) -> ToolSpec:
    """The tool that was sent."""
    return ToolSpec(name=tool.name, description=tool.description, parameters=get_struct(tool.parameters))


def _decode_call(call: pb.ToolCall) -> ToolCall:
    return ToolCall(id=call.id, name=call.name, arguments=call.arguments)


def _put_part(part: ContentPart, into: pb.ContentPart) -> None:
    match part:
        case TextPart():
            into.text = part.text
        case ImagePart():
            into.image.CopyFrom(pb.Image(data=part.data, mime=part.mime))
        case JsonPart():
            put_value(part.value, into.json)
        case TensorPart():
            into.tensor.CopyFrom(pb.Tensor(dtype=part.dtype, shape=part.shape, data=part.data))


def _decode_part(part: pb.ContentPart) -> ContentPart:
    match part.WhichOneof("part"):
        case "text":
            return TextPart(text=part.text)
        case "image":
            return ImagePart(data=part.image.data, mime=part.image.mime)
        case "json":
            return JsonPart(value=get_value(part.json))
        case "tensor":
            return TensorPart(dtype=part.tensor.dtype, shape=tuple(part.tensor.shape), data=part.tensor.data)
        case _:
            raise DataError("a message has an empty content part, or one of a kind that needs a newer rlforge")
