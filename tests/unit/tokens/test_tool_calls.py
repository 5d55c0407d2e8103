"""Tool calls are found in a reply, or the model is told what is wrong with them."""

import json

import pytest

from rlforge.registry import TOOL_FORMATS
from rlforge.tokens.tool_calls.format import ToolFormat, UnreadableToolCall
from rlforge.tokens.tool_calls.hermes import DEEPEST
from rlforge.types import ToolCall


@pytest.fixture
def hermes() -> ToolFormat:
    return TOOL_FORMATS.load("hermes")()


def test_a_reply_without_call_is_left_as_it_is(hermes: ToolFormat) -> None:
    assert hermes.read("  I am done. \n", 0) == ("  I am done. \n", ())


def test_calls_are_read_in_their_order_and_the_text_beside_them(hermes: ToolFormat) -> None:
    reply = (
        'First\n<tool_call>\n{"name": "go", "arguments": {"to": "küche", "n": 1.0}}\n</tool_call>\n'
        '<tool_call>{"name": "look"}</tool_call>'
    )
    text, calls = hermes.read(reply, 3)
    assert text == "First"
    assert calls == (
        ToolCall(id="call_3_0", name="go", arguments='{"to": "küche", "n": 1.0}'),
        ToolCall(id="call_3_1", name="look", arguments="{}"),
    )


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ('<tool_call>{"name": "go"', "does not end"),
        ("<tool_call>go(1)</tool_call>", "not valid JSON"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "not valid JSON"),
        ("<tool_call>[1]</tool_call>", "names no tool"),
        ('<tool_call>{"arguments": {}}</tool_call>', "names no tool"),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', "names no tool"),
        ('<tool_call>{"name": "go", "arguments": "left"}</tool_call>', "arguments of 'go' are no JSON object"),
        ('<tool_call>{"name": "go"}</tool_call><tool_call>{</tool_call>', "not valid JSON"),
        (r'<tool_call>{"name": "go", "arguments": {"to": "\ud83d"}}</tool_call>', "surrogates not allowed"),
        (r'<tool_call>{"name": "go", "arguments": {"\udc00": 1}}</tool_call>', "surrogates not allowed"),
        (r'<tool_call>{"name": "\ud83d", "arguments": {}}</tool_call>', "surrogates not allowed"),
        (r'<tool_call>{"name": "\ud83d", "arguments": 1}</tool_call>', "are no JSON object"),
        ('<tool_call>{"name": "go", "arguments": {"to": NaN}}</tool_call>', "NaN is no number"),
        ('<tool_call>{"name": "go", "arguments": {"to": -Infinity}}</tool_call>', "-Infinity is no number"),
        ('<tool_call>{"name": "go", "arguments": {"to": 1e999}}</tool_call>', "Out of range float"),
        ('<tool_call>{"name": "go", "arguments": {"to": 1' + "0" * 5000 + "}}</tool_call>", "not valid JSON"),
    ],
)
def test_a_call_that_makes_no_sense_tells_the_model_how_to_write_one(hermes: ToolFormat, reply: str, said: str) -> None:
    with pytest.raises(UnreadableToolCall, match=said) as caught:
        hermes.read(reply, 0)
    assert str(caught.value).encode()
    assert '<tool_call>{"name": "…", "arguments": {…}}</tool_call>' in str(caught.value)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 300, 950, 980, 990, 995, 1000, 5000])
def test_arguments_that_are_nested_too_deep_are_refused_before_anybody_runs_out_of_stack(
    hermes: ToolFormat, depth: int
) -> None:
    arguments = '{"to": ' * (depth - 1) + "{}" + "}" * (depth - 1)
    with pytest.raises(UnreadableToolCall, match=r"levels deep|not valid JSON"):
        hermes.read(f'<tool_call>{{"name": "go", "arguments": {arguments}}}</tool_call>', 0)


def test_many_brackets_are_not_deep(hermes: ToolFormat) -> None:
    body = {"name": "write", "arguments": {"code": "{[" * 500, "rows": [[1]] * 100, "deep": eval("[" * 60 + "]" * 60)}}
    (call,) = hermes.read(f"<tool_call>{json.dumps(body)}</tool_call>", 0).calls
    assert json.loads(call.arguments) == body["arguments"]


def test_a_whole_pair_of_surrogates_and_a_nul_are_text(hermes: ToolFormat) -> None:
    (call,) = hermes.read(
        r'<tool_call>{"name": "say", "arguments": {"text": "\ud83d\ude00 \u0000"}}</tool_call>', 0
    ).calls
    assert json.loads(call.arguments) == {"text": "\U0001f600 \0"}
