"""Where the checker gets replies that the world understands: it has no model to write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from google.protobuf.json_format import MessageToDict

from rlforge.errors import DataError
from rlforge.values import value
from rlforge.wire.json import from_json
from rlforge.wire.pb import environment_pb2, types_pb2
from rlforge.wire.values import get_struct, get_value

_TRIAL = ("check", "ok", "yes", "1")


@value()
class Replies:
    """What the model would say in a world of a task."""

    source: str
    """Where they come from, for the report."""
    of: Callable[[types_pb2.Task], Sequence[types_pb2.Message]]
    """The replies for a task, in their order."""
    endless: bool
    """Whether they may be said again from the beginning when they are used up."""

    def at(self, task: types_pb2.Task, turn: int) -> types_pb2.Message | None:
        """The reply of a turn, from 0; None when there are no more."""
        said = self.of(task)
        if not said or (turn >= len(said) and not self.endless):
            return None
        return said[turn % len(said)]


def given_replies(text: str) -> Replies:
    """Replies from `--actions`: a file with one a line, or the text itself.

    A line is what the model says, or a JSON object: a Message of the protocol (`{"tool_calls": [...]}`).
    Raises DataError for a file without any.
    """
    path = Path(text)
    is_file = len(text) < 4096 and "\n" not in text and path.is_file()
    lines = path.read_text("utf-8").splitlines() if is_file else text.splitlines()
    said = [reply_of(line) for line in lines if line.strip()]
    if not said:
        raise DataError(f"--actions {text!r} holds no replies; write one a line")
    return Replies(source="--actions", of=lambda task: said, endless=True)


def reply_of(said: Any) -> types_pb2.Message:
    """A reply of the assistant from text, from JSON text, or from what JSON says. Raises DataError."""
    if isinstance(said, str):
        try:
            read = json.loads(said)
        except ValueError:
            read = None
        if not isinstance(read, dict):
            return types_pb2.Message(role="assistant", content=[types_pb2.ContentPart(text=said)])
        said = cast(Any, read)
    if not isinstance(said, dict):
        return reply_of(json.dumps(said))
    fields = cast(dict[str, Any], said)
    if isinstance(fields.get("content"), str):
        fields = {**fields, "content": [{"text": fields["content"]}]}
    return from_json({"role": "assistant", **fields}, types_pb2.Message)


def reference_replies(task: types_pb2.Task, *, answer_is_a_reply: bool) -> list[types_pb2.Message]:
    """What earns the task's reward, where the task says so.

    That is `info.actions` (a list), an answer that is a list, or, in an environment without tools, an answer that is
    text or a number.
    """
    listed: Any = get_struct(task.info).get("actions")
    if isinstance(listed, list) and listed:
        return [reply_of(said) for said in cast(list[Any], listed)]
    answer: Any = get_value(task.answer) if task.HasField("answer") else None
    if isinstance(answer, list) and answer:
        return [reply_of(said) for said in cast(list[Any], answer)]
    if answer_is_a_reply and isinstance(answer, str | int | float) and not isinstance(answer, bool):
        return [reply_of(str(answer))]
    return []


def replies_from(spec: environment_pb2.EnvironmentSpec, tasks: Sequence[types_pb2.Task]) -> Replies:
    """The best replies there are without being given any: reference answers, calls of the tools, words on trial."""
    plain = not spec.tools
    if tasks and all(reference_replies(task, answer_is_a_reply=plain) for task in tasks):
        return Replies(
            source="the tasks' reference answers",
            of=lambda task: reference_replies(task, answer_is_a_reply=plain),
            endless=False,
        )
    if spec.tools:
        calls = [_call_of(tool) for tool in spec.tools]
        return Replies(source="made up from the tools' schemas", of=lambda task: calls, endless=True)
    words = [reply_of(word) for word in _TRIAL]
    return Replies(source="words on trial", of=lambda task: words, endless=True)


def _call_of(tool: types_pb2.ToolSpec) -> types_pb2.Message:
    schema: dict[str, Any] = MessageToDict(tool.parameters)
    arguments = json.dumps(_fitting(schema) if schema else {})
    call = types_pb2.ToolCall(id="check-1", name=tool.name, arguments=arguments)
    return types_pb2.Message(role="assistant", tool_calls=[call])


def _fitting(schema: dict[str, Any]) -> Any:
    """A small value that a JSON Schema admits, as far as its commonest words go."""
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            return _fitting(schema[word][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties: dict[str, Any] = schema.get("properties", {})
            return {name: _fitting(properties.get(name, {})) for name in schema.get("required", [])}
        case "array":
            return [_fitting(schema.get("items", {}))] * int(schema.get("minItems", 0))
        case "integer" | "number":
            low = schema.get("minimum", 0)
            return int(low) if kind == "integer" else low
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return "check".ljust(int(schema.get("minLength", 0)), "x")
