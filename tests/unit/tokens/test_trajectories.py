from dataclasses import replace

import numpy as np
import pytest

from rlforge.errors import DataError
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.tokens.trajectories import conversation_trajectory, document_trajectories
from rlforge.tokens.transcript import Transcript
from rlforge.types import Conversation, Document, Message, ToolSpec


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> ChatRenderer:
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(TokenizerConfig(type="byte"), [], folder, context=64)
    return ChatRenderer.from_folder(folder)


CONVERSATION = Conversation(id="c/1", messages=(Message.of("user", "1+2="), Message.of("assistant", "3")))


def test_a_conversation_is_supervised_on_its_reply(renderer: ChatRenderer) -> None:
    trajectory = conversation_trajectory(CONVERSATION, renderer, max_tokens=64)
    assert trajectory.objective == "supervised"
    assert renderer.decode(trajectory.token_ids[trajectory.sampled].tolist()) == "3"
    assert int(trajectory.sampled.sum()) == 2  # the reply and the end of its turn
    assert trajectory.prompt_length == int(np.argmax(trajectory.sampled)) == trajectory.length - 2
    assert trajectory.behaviour_logprobs is None
    assert trajectory.reward is None


def test_a_conversation_beyond_the_limit_is_refused_unless_told_to_truncate(renderer: ChatRenderer) -> None:
    with pytest.raises(DataError, match=r"conversation 'c/1' has 25 tokens, more than the 24"):
        conversation_trajectory(CONVERSATION, renderer, max_tokens=24)
    assert conversation_trajectory(CONVERSATION, renderer, max_tokens=24, truncate=True).length == 24


def test_a_conversation_cut_before_its_reply_is_refused(renderer: ChatRenderer) -> None:
    with pytest.raises(DataError, match="hold no reply to learn from"):
        conversation_trajectory(CONVERSATION, renderer, max_tokens=23, truncate=True)


def test_tools_of_a_conversation_are_told_as_in_a_world_that_has_them(renderer: ChatRenderer) -> None:
    tools = (ToolSpec(name="go", description="Walk.", parameters={"type": "object"}),)
    trajectory = conversation_trajectory(replace(CONVERSATION, tools=tools), renderer, max_tokens=1024)
    lived = Transcript(renderer, CONVERSATION.messages[:1], tools).prompt_ids
    assert tuple(trajectory.token_ids[: trajectory.prompt_length]) == lived
    assert "Walk." in renderer.decode(lived)


def test_a_tools_schema_is_told_in_the_same_words_whatever_order_its_keys_came_in(renderer: ChatRenderer) -> None:
    steps = {"description": "How far.", "type": "integer"}
    one = {"required": ["to"], "properties": {"to": {"enum": ["a"], "type": "string"}, "by": steps}, "type": "object"}
    other = {"type": "object", "properties": {"by": steps, "to": {"type": "string", "enum": ["a"]}}, "required": ["to"]}
    texts = {renderer.text((), [ToolSpec(name="go", parameters=schema)]) for schema in (one, other)}
    assert len(texts) == 1
    assert '{"type": "object", "properties": {"by": {"type": "integer", "description"' in texts.pop()


def test_a_document_is_cut_into_pieces_without_overlap(renderer: ChatRenderer) -> None:
    pieces = document_trajectories(Document(id="d", text="0123456789"), renderer, max_tokens=4)
    assert [piece.length for piece in pieces] == [4, 4, 3]
    together = np.concatenate([piece.token_ids for piece in pieces]).tolist()
    assert together == [*renderer.encode("0123456789"), renderer.eos_id]
    for piece in pieces:
        assert piece.sampled.tolist() == [False, *[True] * (piece.length - 1)]
        assert (piece.weight, piece.objective) == (1.0, "supervised")


def test_a_last_piece_of_one_token_is_left_out(renderer: ChatRenderer) -> None:
    assert [piece.length for piece in document_trajectories(Document(id="d", text="01234567"), renderer, 4)] == [4, 4]


def test_an_empty_document_is_refused(renderer: ChatRenderer) -> None:
    with pytest.raises(DataError, match="document 'd' is empty"):
        document_trajectories(Document(id="d", text=""), renderer, 4)
