"""Tool calls as Hermes and Qwen models write them: JSON between `<tool_call>` and `</tool_call>`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from rlforge.tokens.tool_calls.format import ReadReply, UnreadableToolCall
from rlforge.types import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
DEEPEST = 64
"""Lists and objects within one another: whoever reads the arguments later on may have less room for them."""
_SHAPE = '<tool_call>{"name": "…", "arguments": {…}}</tool_call>'


class Hermes:
    """Plays the ToolFormat role. Example: `<tool_call>{"name": "run", "arguments": {"file": "a.py"}}</tool_call>`."""

    def read(self, reply: str, turn: int) -> ReadReply:
        """Calls in their order; what stands before, between and behind them is the text."""
        texts, calls = [], []
        for text, body in _blocks(reply):
            texts.append(text)
            if body is not None:
                calls.append(_call(body, f"call_{turn}_{len(calls)}"))
        return ReadReply("".join(texts).strip() if calls else reply, tuple(calls))


def _blocks(reply: str) -> Iterator[tuple[str, str | None]]:
    """Text, and the body of the call behind it; None behind the last."""
    rest = reply
    while OPEN in rest:
        text, _, rest = rest.partition(OPEN)
        body, closed, rest = rest.partition(CLOSE)
        if not closed:
            raise UnreadableToolCall(f"the tool call does not end; write {_SHAPE}")
        yield text, body
    yield rest, None


def _call(body: str, call_id: str) -> ToolCall:
    try:
        said = _decode(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableToolCall(f"the tool call is not valid JSON ({error}); write {_SHAPE}") from error
    call = cast(dict[str, Any], said) if isinstance(said, dict) else {}
    name, arguments = call.get("name"), call.get("arguments", {})
    if not isinstance(name, str) or not name:
        raise UnreadableToolCall(f"the tool call names no tool; write {_SHAPE}")
    if not isinstance(arguments, dict):
        raise UnreadableToolCall(f"the arguments of {name!a} are no JSON object; write {_SHAPE}")
    if _is_deep(body, cast(dict[str, Any], arguments)):
        raise UnreadableToolCall(f"the arguments of {name!a} are nested more than {DEEPEST} levels deep; flatten them")
    try:
        written = _encode(arguments)
        f"{name}{written}".encode()  # half a surrogate pair, escaped, is valid JSON and no text that can travel
    except ValueError as error:
        raise UnreadableToolCall(f"the tool call cannot be passed on ({error}); write {_SHAPE}") from error
    return ToolCall(id=call_id, name=name, arguments=written)


def _is_deep(body: str, arguments: dict[str, Any]) -> bool:
    """Whether lists and objects stand more than `DEEPEST` deep within one another."""
    if body.count("[") + body.count("{") <= DEEPEST:
        return False
    level: list[Any] = [arguments]
    for _ in range(DEEPEST):
        inner = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
        level = [item for item in inner if isinstance(item, dict | list)]
    return bool(level)


def _refuse_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_number).decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
