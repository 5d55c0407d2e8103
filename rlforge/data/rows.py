"""Plain mappings, as JSON and Python give them, become tasks, conversations and documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from rlforge.data.config import Item, Kind
from rlforge.errors import DataError
from rlforge.registry import suggest
from rlforge.types import Conversation, Document, Message, Task, TextPart, ToolCall, ToolSpec

_KEYS: dict[Kind, tuple[str, ...]] = {
    "tasks": ("id", "prompt", "messages", "answer", "info"),
    "conversations": ("id", "messages", "prompt", "completion", "tools"),
    "documents": ("id", "text"),
}
_ROLES = ("system", "user", "assistant", "tool")


def item_from_row(
    row: object, *, source: str, default_id: str, kind: Kind | None = None, keep_extra: bool = False
) -> Item:
    """The item a row describes. Raises DataError that says what is wrong with the row.

    Without a `kind` the keys decide: `text` is a document, `completion` or messages that end with the assistant's
    are a conversation, anything else is a task. Extra keys are refused, or kept in a task's info with `keep_extra`.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"a row is a mapping of names to values, not {_show(row)}")
    row = cast(Mapping[str, Any], row)
    kind = kind or _kind(row)
    extra = {key: value for key, value in row.items() if key not in _KEYS[kind]}
    if extra and not keep_extra:
        raise DataError(_extra_key(next(iter(extra)), kind, row))
    row_id = row.get("id", default_id)
    if not isinstance(row_id, str | int) or isinstance(row_id, bool):
        raise DataError(f"id is a text or a whole number, not {_show(row_id)}")
    return _readable(_BUILD[kind](row, f"{source}/{row_id}", source, extra))


def as_conversation(item: Item) -> Conversation:
    """A task with a reference answer as a conversation that ends with that answer, for supervised fine-tuning.

    Raises DataError for a task without an answer and for a document.
    """
    if isinstance(item, Conversation):
        return item
    if isinstance(item, Document):
        raise DataError(f"'{item.id}' is a document, not a conversation; train on documents in a pretrain stage")
    if item.answer is None:
        raise DataError(f"task '{item.id}' has no answer, so there is no reply to imitate")
    reply = Message.of("assistant", answer_text(item.answer))
    return Conversation(id=item.id, messages=(*item.messages, reply), source=item.source)


def answer_text(answer: Any) -> str:
    """A reference answer as the assistant would write it: text as it is, anything else as JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def texts_of(item: Item) -> Iterator[str]:
    """Every stretch of text an item holds, answers included: what a tokenizer made for it must be able to read."""
    if isinstance(item, Document):
        yield item.text
        return
    yield from (message.text for message in item.messages)
    if isinstance(item, Conversation):
        yield from (json.dumps([tool.name, tool.description, tool.parameters]) for tool in item.tools)
    if isinstance(item, Task) and item.answer is not None:
        yield answer_text(item.answer)


def _readable(item: Item) -> Item:
    """The item, if its text can be written: half a surrogate pair, which JSON can escape, ends every tokenizer."""
    for text in _written(item):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            raise DataError(f"half a surrogate pair, {half!r}, is no character; it stands in {_show(text)}") from None
    return item


def _written(item: Item) -> Iterator[str]:
    if isinstance(item, Document):
        yield item.text
        return
    for message in item.messages:
        yield message.text
        yield from (f"{call.name}{call.arguments}" for call in message.tool_calls)
    if isinstance(item, Task) and isinstance(item.answer, str):
        yield item.answer


def _kind(row: Mapping[str, Any]) -> Kind:
    if "text" in row:
        return "documents"
    return "conversations" if "completion" in row or _ends_with_reply(row.get("messages")) else "tasks"


def _ends_with_reply(messages: Any) -> bool:
    return bool(messages) and isinstance(messages, list) and _role(messages[-1]) == "assistant"


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def _task(row: Mapping[str, Any], item_id: str, source: str, extra: Mapping[str, Any]) -> Task:
    info = row.get("info", {})
    if not isinstance(info, Mapping):
        raise DataError(f"info is a mapping, not {_show(info)}")
    return Task(
        id=item_id,
        messages=_question(row),
        answer=row.get("answer"),
        info={**extra, **cast(Mapping[str, Any], info)},
        source=source,
    )


def _conversation(row: Mapping[str, Any], item_id: str, source: str, extra: Mapping[str, Any]) -> Conversation:
    messages = _question(row)
    if "completion" in row:
        messages = (*messages, Message.of("assistant", _string(row["completion"], "completion")))
    if not any(message.role == "assistant" for message in messages):
        raise DataError("a conversation needs a message of the assistant to learn from, and there is none")
    return Conversation(id=item_id, messages=messages, source=source, tools=_tools(row.get("tools") or ()))


def _document(row: Mapping[str, Any], item_id: str, source: str, extra: Mapping[str, Any]) -> Document:
    if "text" not in row:
        raise DataError("a document needs 'text'")
    text = _string(row["text"], "text")
    if not text:
        raise DataError("text is empty")
    return Document(id=item_id, text=text, source=source)


_BUILD = {"tasks": _task, "conversations": _conversation, "documents": _document}


def _question(row: Mapping[str, Any]) -> tuple[Message, ...]:
    if ("prompt" in row) == ("messages" in row):
        raise DataError("give either 'prompt' (one user message) or 'messages', not both and not neither")
    if "prompt" in row and isinstance(row["prompt"], str):
        return (Message.of("user", row["prompt"]),)
    name = "prompt" if "prompt" in row else "messages"
    messages = row[name]
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError(f"{name} is a list of messages with at least one, not {_show(messages)}")
    return tuple(_message(message, f"{name}[{index}]") for index, message in enumerate(cast(Sequence[Any], messages)))


def _message(value: Any, where: str) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is a mapping with role and content, not {_show(value)}")
    value = cast(Mapping[str, Any], value)
    role = value.get("role")
    if role not in _ROLES:
        raise DataError(f"{where}.role is one of {', '.join(_ROLES)}, not {_show(role)}")
    extra = [key for key in value if key not in ("role", "content", "tool_calls", "tool_call_id")]
    if extra:
        raise DataError(f"{where} has the unknown key '{extra[0]}'; known: role, content, tool_calls, tool_call_id")
    return Message(
        role=role,
        content=tuple(TextPart(text=text) for text in _content(value.get("content"), f"{where}.content")),
        tool_calls=tuple(_tool_call(call, f"{where}.tool_calls") for call in _calls(value, where)),
        tool_call_id=_string(value.get("tool_call_id") or "", f"{where}.tool_call_id") or None,
    )


def _calls(message: Mapping[str, Any], where: str) -> Sequence[Any]:
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise DataError(f"{where}.tool_calls is a list of tool calls, not {_show(calls)}")
    return cast(Sequence[Any], calls)


def _content(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        return [_string(value, where)]
    for part in cast(list[Any], value):
        if not (isinstance(part, Mapping) and cast(Mapping[str, Any], part).get("type") == "text"):
            raise DataError(f"{where}: only parts of type text can be read from rows, not {_show(part)}")
    return [_string(part.get("text"), f"{where}.text") for part in cast(list[Mapping[str, Any]], value)]


def _tool_call(value: Any, where: str) -> ToolCall:
    function = _function(value, f"{where}: a tool call looks like {{id, function: {{name, arguments}}}}")
    arguments = function.get("arguments", "{}")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=str(value.get("id", "")), name=function["name"], arguments=text)


def _function(value: Any, like: str) -> Mapping[str, Any]:
    """What OpenAI writes under `function`, with a name."""
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"{like}, not {_show(value)}")
    return cast(Mapping[str, Any], function)


def _tools(value: Any) -> tuple[ToolSpec, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"tools is a list of tools, not {_show(value)}")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(cast(Sequence[Any], value)))


def _tool(value: Any, where: str) -> ToolSpec:
    function = _function(value, f"{where}: a tool looks like {{function: {{name, description, parameters}}}}")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise DataError(f"{where}: parameters is a JSON Schema, not {_show(parameters)}")
    description = _string(function.get("description") or "", f"{where}: description")
    return ToolSpec(name=function["name"], description=description, parameters=cast(Mapping[str, Any], parameters))


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is a text, not {_show(value)}")
    return value


def _extra_key(key: str, kind: Kind, row: Mapping[str, Any]) -> str:
    known = _KEYS[kind]
    place = "put it under 'info' or set extra_keys: keep" if kind == "tasks" else "set extra_keys: keep to pass over it"
    ours = "answer" if "prompt" in row or "messages" in row else "prompt"
    other = f"; if it is the {ours}, a jsonl source reads it by columns: {{{ours}: {key}}}"
    renamed = other if kind == "tasks" and ours not in row else ""
    return f"unknown key '{key}' in {kind}. {suggest(key, known)}Known: {', '.join(known)}; {place}{renamed}"


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
