"""Tool calls are found in a reply, or the model is told what is wrong with them."""

import pytest

from rlforge.registry import TOOL_FORMATS
from rlforge.tokens.tool_calls.format import ToolFormat, UnreadableToolCall
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
    ],
)
def test_a_call_that_makes_no_sense_tells_the_model_how_to_write_one(hermes: ToolFormat, reply: str, said: str) -> None:
    with pytest.raises(UnreadableToolCall, match=said) as caught:
        hermes.read(reply, 0)
    assert '<tool_call>{"name": "…", "arguments": {…}}</tool_call>' in str(caught.value)
