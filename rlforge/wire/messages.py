"""Messages, tool calls and tools on the wire."""

from __future__ import annotations

from typing import Literal, cast, get_args

from rlforge.errors import DataError
from rlforge.types import ContentPart, ImagePart, JsonPart, Message, TensorPart, TextPart, ToolCall, ToolSpec
from rlforge.wire.pb import types_pb2 as pb
from rlforge.wire.refusal import refuses
from rlforge.wire.values import get_struct, get_value, put_struct, put_value

Role = Literal["system", "user", "assistant", "tool"]


@refuses("a message")
def encode_message(message: Message) -> pb.Message:
    """A message of a conversation."""
    return pb.Message(
        role=message.role,
        content=[_encode_part(part) for part in message.content],
        tool_calls=[pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
    )


def decode_message(message: pb.Message) -> Message:
    """The message that was sent. Raises DataError for a role or a part that is none."""
    if message.role not in get_args(Role):
        raise DataError(f"a message has the role '{message.role}'; it must be one of {', '.join(get_args(Role))}")
    return Message(
        role=cast(Role, message.role),
        content=tuple(_decode_part(part) for part in message.content),
        tool_calls=tuple(ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in message.tool_calls),
        tool_call_id=message.tool_call_id if message.HasField("tool_call_id") else None,
    )


@refuses("a tool")
def encode_tool(tool: ToolSpec) -> pb.ToolSpec:
    """A tool the model may call."""
    sent = pb.ToolSpec(name=tool.name, description=tool.description)
    put_struct(tool.parameters, sent.parameters)
    return sent


def decode_tool(tool: pb.ToolSpec) -> ToolSpec:
    """The tool that was sent."""
    return ToolSpec(name=tool.name, description=tool.description, parameters=get_struct(tool.parameters))


def _encode_part(part: ContentPart) -> pb.ContentPart:
    match part:
        case TextPart():
            return pb.ContentPart(text=part.text)
        case ImagePart():
            return pb.ContentPart(image=pb.Image(data=part.data, mime=part.mime))
        case JsonPart():
            sent = pb.ContentPart()
            put_value(part.value, sent.json)
            return sent
        case TensorPart():
            return pb.ContentPart(tensor=pb.Tensor(dtype=part.dtype, shape=part.shape, data=part.data))


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
