"""A model's chat template: messages in, the exact text the model was taught to read out.

Templates are Jinja programs that ship with the model. They run in the same sandbox and with the same filters as in
`transformers`, so that a hub model reads here what it reads everywhere; importing that library for it would cost
seconds and 400 MB in every rollout worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, cast

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rlforge.errors import ConfigError, DataError
from rlforge.tokens.template_parts import parts_of
from rlforge.types import JsonPart, Message, TextPart, ToolCall, ToolSpec

CHATML = (
    "{% if tools %}"
    "{{ '<|im_start|>system\nTools, as JSON:\n' }}"
    "{% for tool in tools %}{{ tool['function'] | tojson + '\n' }}{% endfor %}"
    '{{ \'To call one:\n<tool_call>\n{"name": name, "arguments": {}}\n</tool_call><|im_end|>\n\' }}'
    "{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\n<tool_call>\n' + {'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson }}"
    "{{ '\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of models made from scratch; tools are told and called as Hermes models do."""


class ChatTemplate:
    """A compiled template with the special tokens it may name. Raises ConfigError when it does not compile."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], owner: str) -> None:
        self._special_tokens = dict(special_tokens)
        self._owner = owner
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the chat template of {owner} does not compile: {error}") from error
        self._template.globals = dict(self._template.globals)  # copied at every rendering; the chain is slow to copy
        self._parts = parts_of(self._template.environment, source, self._special_tokens)
        self._opening: str | None = None

    def render(self, messages: Sequence[Message], *, generation_prompt: bool, tools: Sequence[ToolSpec] = ()) -> str:
        """The conversation as text, ending where the assistant is to speak when `generation_prompt`.

        `tools` are told to the model in the template's own way; one that knows no tools passes them over.

        Raises DataError when the template refuses the messages, as some do for a system message or for two user
        messages in a row.
        """
        return self._rendered(
            self._template,
            messages,
            add_generation_prompt=generation_prompt,
            tools=[_plain_tool(tool) for tool in tools] or None,
        )

    @property
    def writes_each_alone(self) -> bool:
        """Whether a conversation's text is what `each` gives for its messages, one by one, and `opening` behind."""
        return self._parts is not None

    def each(self, messages: Sequence[Message]) -> str:
        """What a template that `writes_each_alone` writes for messages wherever they stand. Raises as `render`."""
        try:
            return "".join([self._each(_plain(message)) for message in messages])
        except jinja2.TemplateError as error:
            raise self._refused(messages, error) from error

    @cached_property
    def _each(self) -> Callable[[dict[str, Any]], str]:
        assert self._parts is not None
        module: Any = self._parts.each.make_module({**self._special_tokens, "add_generation_prompt": True})
        return module.each

    @property
    def opening(self) -> str:
        """What it writes behind all messages, where the assistant is to speak."""
        assert self._parts is not None
        if self._opening is None:
            self._opening = self._rendered(self._parts.behind, (), add_generation_prompt=True)
        return self._opening

    def _rendered(self, program: jinja2.Template, messages: Sequence[Message], **given: Any) -> str:
        spoken = [_plain(message) for message in messages]
        try:
            return program.render(messages=spoken, **given, **self._special_tokens)
        except jinja2.TemplateError as error:
            raise self._refused(messages, error) from error

    def _refused(self, messages: Sequence[Message], error: jinja2.TemplateError) -> DataError:
        roles = ", ".join(message.role for message in messages) or "none"
        return DataError(f"the chat template of {self._owner} refuses a conversation with the roles {roles}: {error}")


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words in some templates; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own declaration)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, quicker where a template asks for what a message may not have (`message['tool_calls']`)."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """What jinja's own finds, which raises and looks for an attribute before it gives up."""
        if type(obj) is dict and type(argument) is str and argument not in obj and not hasattr(obj, argument):
            return self.undefined(obj=obj, name=argument)
        return super().getitem(obj, argument)


def _environment() -> jinja2.Environment:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    functions: dict[str, Any] = environment.globals
    functions.update(raise_exception=_refuse, strftime_now=_strftime_now)
    return environment


def _tojson(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
    # jinja's own filter escapes for HTML, which no model was taught to read
    return json.dumps(value, ensure_ascii=ensure_ascii, **layout)


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": "".join([_text(part) for part in message.content])}
    if message.tool_calls:
        plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _text(part: object) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, JsonPart):
        return json.dumps(part.value, ensure_ascii=False)
    raise DataError(
        f"a message holds a {type(part).__name__}, which a chat template cannot render; give it to the model as text"
    )


def _plain_call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except (json.JSONDecodeError, RecursionError):
        arguments = call.arguments  # a policy may write broken JSON: show it what it wrote
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _plain_tool(tool: ToolSpec) -> dict[str, Any]:
    parameters = _in_order(tool.parameters) or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


_USUAL = {key: place for place, key in enumerate(("type", "description", "enum", "properties", "required"))}


def _in_order(schema: Any) -> Any:
    """A JSON Schema with its keys in the usual order: on the wire they have none, and no prompt may depend on that."""
    if isinstance(schema, list | tuple):
        return [_in_order(each) for each in cast(Sequence[Any], schema)]
    if not isinstance(schema, Mapping):
        return schema
    known = cast(Mapping[str, Any], schema)
    return {key: _in_order(known[key]) for key in sorted(known, key=lambda key: (_USUAL.get(key, len(_USUAL)), key))}
