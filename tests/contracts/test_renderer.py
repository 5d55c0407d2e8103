"""What every renderer promises, on each tokenizer that a recipe can make."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from rlforge.interfaces import Renderer
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import SMALLEST_BPE, TokenizerConfig, build_tokenizer
from rlforge.types import Message

TEXTS = ["12+34=46", "what is 7+8?", "the sum of 1 and 2 is 3\n"]
CONVERSATION = [Message.of("system", TEXTS[1]), Message.of("user", TEXTS[0])]
KINDS = get_args(TokenizerConfig.model_fields["type"].annotation)


@pytest.fixture(params=KINDS)
def renderer(request: pytest.FixtureRequest, tmp_path: Path) -> ChatRenderer:
    size = {"vocab_size": SMALLEST_BPE + 20} if request.param == "bpe" else {}
    config = TokenizerConfig.parse({"type": request.param, **size})
    build_tokenizer(config, TEXTS, tmp_path, context=64)
    return ChatRenderer.from_folder(tmp_path)


def test_it_plays_the_role(renderer: ChatRenderer) -> None:
    assert isinstance(renderer, Renderer)


def test_text_survives_the_way_to_tokens_and_back(renderer: ChatRenderer) -> None:
    for text in TEXTS:
        assert renderer.decode(renderer.encode(text)) == text


def test_special_tokens_are_left_out_of_the_text(renderer: ChatRenderer) -> None:
    ids = renderer.encode(TEXTS[0])
    assert renderer.decode((*ids, renderer.eos_id)) == TEXTS[0]
    assert renderer.decode(()) == ""


def test_a_prompt_holds_every_message_and_ends_where_the_assistant_is_to_speak(renderer: ChatRenderer) -> None:
    prompt = renderer.prompt(CONVERSATION)
    assert isinstance(prompt, tuple)
    said = renderer.decode(prompt)
    assert TEXTS[0] in said
    assert TEXTS[1] in said
    replied = [*CONVERSATION, Message.of("assistant", "46")]
    assert renderer.prompt([*replied, Message.of("user", "7?")])[: len(prompt)] == prompt


def test_the_same_messages_give_the_same_tokens(renderer: ChatRenderer) -> None:
    assert renderer.prompt(CONVERSATION) == renderer.prompt(list(CONVERSATION))
    assert renderer.prompt(CONVERSATION) != renderer.prompt(CONVERSATION[1:])
