"""Messages, tasks and scores as JSON values, for the files of a run."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from rlforge.errors import RunError
from rlforge.types import ContentPart, ImagePart, JsonPart, Message, Score, Task, TensorPart, TextPart, ToolCall


def message_to_json(message: Message) -> dict[str, Any]:
    """A message as plain data; what is empty is left out."""
    data: dict[str, Any] = {"role": message.role, "content": [_part_to_json(part) for part in message.content]}
    if message.tool_calls:
        data["tool_calls"] = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls]
    if message.tool_call_id is not None:
        data["tool_call_id"] = message.tool_call_id
    return data


def message_from_json(data: Mapping[str, Any]) -> Message:
    """The message that `message_to_json` wrote."""
    return Message(
        role=data["role"],
        content=tuple(_part_from_json(part) for part in data["content"]),
        tool_calls=tuple(ToolCall(**call) for call in data.get("tool_calls", ())),
        tool_call_id=data.get("tool_call_id"),
    )


def task_to_json(task: Task) -> dict[str, Any]:
    """A task as plain data."""
    return {
        "id": task.id,
        "messages": [message_to_json(message) for message in task.messages],
        "answer": task.answer,
        "info": dict(task.info),
        "source": task.source,
    }


def task_from_json(data: Mapping[str, Any]) -> Task:
    """The task that `task_to_json` wrote; answers that JSON lacks come back as lists or as their repr."""
    return Task(
        id=data["id"],
        messages=tuple(message_from_json(message) for message in data["messages"]),
        answer=data["answer"],
        info=data["info"],
        source=data["source"],
    )


def score_to_json(score: Score) -> dict[str, Any]:
    """A score as plain data."""
    return {
        "scorer": score.scorer,
        "value": score.value,
        "components": dict(score.components),
        "reason": score.reason,
        "error_kind": score.error_kind,
        "retryable": score.retryable,
        "attempts": score.attempts,
        "seconds": score.seconds,
        "output": score.output,
    }


def score_from_json(data: Mapping[str, Any]) -> Score:
    """The score that `score_to_json` wrote."""
    return Score(**data)


def _part_to_json(part: ContentPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"text": part.text}
        case ImagePart():
            return {"image": base64.b64encode(part.data).decode(), "mime": part.mime}
        case JsonPart():
            return {"json": part.value}
        case TensorPart():
            return {"tensor": base64.b64encode(part.data).decode(), "dtype": part.dtype, "shape": list(part.shape)}


def _part_from_json(data: Mapping[str, Any]) -> ContentPart:
    match data:
        case {"text": text}:
            return TextPart(text=text)
        case {"image": image, "mime": mime}:
            return ImagePart(data=base64.b64decode(image), mime=mime)
        case {"json": value}:
            return JsonPart(value=value)
        case {"tensor": tensor, "dtype": dtype, "shape": shape}:
            return TensorPart(data=base64.b64decode(tensor), dtype=dtype, shape=tuple(shape))
        case _:
            raise RunError(f"a message has a content part of unknown kind: {sorted(data)}; it needs a newer rlforge")
