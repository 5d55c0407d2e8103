"""Prompts of later turns hold what was sampled, in the tokens in which it was sampled."""

import json
import random
from pathlib import Path

import pytest

from rlforge.errors import ConfigError
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.transcript import Transcript
from rlforge.types import Completion, FinishReason, Message, ToolSpec
from tests.unit.tokens.templates import TEMPLATES, renderer_of

ASK = [Message.of("system", "be brief"), Message.of("user", "what now?")]
GO_ON = [Message.of("user", "go on")]
RESULT = [Message.of("tool", "green")]


def completion(ids: tuple[int, ...], reason: FinishReason = FinishReason.STOP) -> Completion:
    return Completion(token_ids=ids, logprobs=(-1.0,) * len(ids), policy_versions=(0,) * len(ids), finish_reason=reason)


def spelled(renderer: ChatRenderer, text: str) -> tuple[int, ...]:
    """The text in single characters' tokens: not as the tokenizer would write it."""
    return tuple(token for letter in text for token in renderer.encode(letter))


def says(transcript: Transcript, renderer: ChatRenderer, text: str) -> tuple[int, ...]:
    ids = (*spelled(renderer, text), renderer.eos_id)
    transcript.reply(completion(ids))
    return ids


def holds(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(ids[start : start + len(part)] == part for start in range(len(ids)))


@pytest.fixture(params=list(TEMPLATES))
def renderer(request: pytest.FixtureRequest, tmp_path: Path) -> ChatRenderer:
    return renderer_of(request.param, tmp_path)


@pytest.fixture
def forgets(tmp_path: Path) -> ChatRenderer:
    return renderer_of("forgets", tmp_path)


def test_the_first_prompt_is_the_templates(renderer: ChatRenderer) -> None:
    assert Transcript(renderer, ASK).prompt_ids == renderer.prompt(ASK)


def test_a_plain_reply_stays_as_it_was_sampled(tmp_path: Path) -> None:
    for shape in ("chatml", "llama", "forgets"):
        renderer = renderer_of(shape, tmp_path / shape)
        transcript = Transcript(renderer, ASK)
        first = transcript.prompt_ids
        ids = says(transcript, renderer, "I go left.")
        transcript.hear(GO_ON)
        assert transcript.prompt_ids[: len(first) + len(ids)] == first + ids
        said = [*ASK, Message.of("assistant", "I go left."), *GO_ON]
        assert renderer.decode(transcript.prompt_ids) == renderer.decode(renderer.prompt(said))
        assert transcript.prompt_ids != renderer.prompt(said)


def test_an_end_of_turn_is_added_only_where_the_policy_sampled_none(renderer: ChatRenderer) -> None:
    for closing, reason in [
        ((renderer.eos_id,), FinishReason.STOP),
        ((), FinishReason.LENGTH),
        ((), FinishReason.STOP),
    ]:
        transcript = Transcript(renderer, ASK, history="append")
        first, words = transcript.prompt_ids, spelled(renderer, "yes")
        transcript.reply(completion(words + closing, reason))
        transcript.hear(GO_ON)
        rest = transcript.prompt_ids[len(first) + len(words) :]
        assert rest[0] == renderer.eos_id
        assert renderer.eos_id not in rest[1:2]


def test_an_end_of_turn_that_ends_no_sequence_is_not_added_twice(tmp_path: Path) -> None:
    renderer_of("chatml", tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": "<|endoftext|>"}))
    renderer = ChatRenderer.from_folder(tmp_path)
    (end,) = renderer.stop_ids
    transcript = Transcript(renderer, ASK)
    first = transcript.prompt_ids
    ids = (*spelled(renderer, "yes"), end)
    transcript.reply(completion(ids))
    transcript.hear(GO_ON)
    assert transcript.prompt_ids == first + ids + renderer.encode(
        "\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n"
    )


def test_another_end_than_the_templates_takes_its_place(tmp_path: Path) -> None:
    renderer = renderer_of("chatml", tmp_path)
    transcript = Transcript(renderer, ASK)
    first = transcript.prompt_ids
    ids = (*spelled(renderer, "yes"), 0)  # <|endoftext|>
    transcript.reply(completion(ids))
    transcript.hear(GO_ON)
    behind = renderer.encode("\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n")
    assert transcript.prompt_ids == first + ids + behind


@pytest.mark.parametrize("shape", ["chatml", "llama"])
def test_random_tokens_go_on_and_on_without_being_encoded_again(shape: str, tmp_path: Path) -> None:
    renderer = renderer_of(shape, tmp_path)
    for seed in range(20):
        draw = random.Random(seed)
        transcript = Transcript(renderer, ASK)
        lived = transcript.prompt_ids
        for _ in range(6):
            ids = tuple(draw.randrange(renderer.vocabulary) for _ in range(draw.randint(0, 12)))
            transcript.reply(completion(ids, draw.choice(list(FinishReason))))
            transcript.hear(draw.choice([GO_ON, RESULT]))
            assert transcript.prompt_ids[: len(lived) + len(ids)] == lived + ids
            lived = transcript.prompt_ids


def test_white_space_that_a_template_trims_is_no_reason_to_change_what_was_sampled(tmp_path: Path) -> None:
    renderer = renderer_of("llama", tmp_path)
    transcript = Transcript(renderer, ASK)
    for _ in range(3):
        lived = transcript.prompt_ids
        ids = says(transcript, renderer, "  yes \n\n")
        transcript.hear(GO_ON)
        assert transcript.prompt_ids[: len(lived) + len(ids)] == lived + ids


def test_reasoning_is_left_out_where_the_template_does_and_the_rest_stays_as_sampled(forgets: ChatRenderer) -> None:
    transcript = Transcript(forgets, ASK)
    first = transcript.prompt_ids
    ids = says(transcript, forgets, "<think>\nhm\n</think>\n\nI go left.")
    transcript.hear(GO_ON)
    answer = ids[-len("I go left.") - 1 :]
    behind = forgets.encode("\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n")
    assert transcript.prompt_ids == first + answer + behind
    second = transcript.prompt_ids
    more = says(transcript, forgets, "no thought")
    transcript.hear(GO_ON)
    assert transcript.prompt_ids == second + more + behind


def test_reasoning_before_a_tools_answer_is_kept_until_the_user_speaks(forgets: ChatRenderer) -> None:
    transcript = Transcript(forgets, ASK)
    first = transcript.prompt_ids
    one = says(transcript, forgets, "<think>a</think>one")
    transcript.hear(RESULT)
    assert transcript.prompt_ids[: len(first) + len(one)] == first + one
    two = says(transcript, forgets, "<think>b</think>two")
    transcript.hear(GO_ON)
    assert transcript.prompt_ids[: len(first) + 4] == first + one[-4:]
    assert holds(transcript.prompt_ids, two[-4:])
    assert forgets.decode(transcript.prompt_ids).count("think") == 0


def test_a_thought_that_ends_within_a_token_is_left_out_by_writing_the_rest_anew(forgets: ChatRenderer) -> None:
    thought = forgets.encode("<think>hm</think>... left")
    assert ">..." in [forgets.decode([token]) for token in thought]
    transcript = Transcript(forgets, ASK)
    first = transcript.prompt_ids
    transcript.reply(completion((*thought, forgets.eos_id)))
    transcript.hear(GO_ON)
    rest = (*forgets.encode("... left"), forgets.eos_id)
    assert transcript.prompt_ids[: len(first) + len(rest)] == first + rest


def test_append_keeps_the_reasoning_that_a_template_would_leave_out(forgets: ChatRenderer) -> None:
    transcript = Transcript(forgets, ASK, history="append")
    for _ in range(3):
        lived = transcript.prompt_ids
        ids = says(transcript, forgets, "<think>\nhm\n</think>\n\nI go left.")
        transcript.hear(GO_ON)
        assert transcript.prompt_ids[: len(lived) + len(ids)] == lived + ids


def test_a_template_that_opens_the_reasoning_itself_goes_on_before_a_tools_answer(tmp_path: Path) -> None:
    renderer = renderer_of("opens", tmp_path)
    transcript = Transcript(renderer, ASK)
    first = transcript.prompt_ids
    ids = says(transcript, renderer, "hm\n</think>\n\nI look.")
    transcript.hear(RESULT)
    assert transcript.prompt_ids[: len(first) + len(ids)] == first + ids
    says(transcript, renderer, "aha\n</think>\n\nI go.")
    transcript.hear(GO_ON)
    text = renderer.decode(transcript.prompt_ids)
    assert text.count("think") == 1
    assert "hm" not in text
    assert "I look." in text
    assert text.endswith("assistant\n<think>\n")


def test_tools_are_told_through_the_template(tmp_path: Path) -> None:
    renderer = renderer_of("chatml", tmp_path)
    tool = ToolSpec(name="go", description="Walk.", parameters={"type": "object", "properties": {"to": {}}})
    transcript = Transcript(renderer, ASK, [tool])
    text = renderer.decode(transcript.prompt_ids)
    assert '{"name": "go", "description": "Walk.", "parameters"' in text
    says(transcript, renderer, '<tool_call>{"name": "go"}</tool_call>')
    transcript.hear(RESULT)
    assert renderer.decode(transcript.prompt_ids).startswith(text)


def test_a_template_that_hides_replies_is_refused_with_a_way_out(tmp_path: Path) -> None:
    renderer = renderer_of("chatml", tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}\n{% endif %}{% endfor %}"
    )
    transcript = Transcript(ChatRenderer.from_folder(tmp_path), ASK)
    says(transcript, renderer, "yes")
    with pytest.raises(ConfigError, match="leaves a reply out"):
        transcript.hear(GO_ON)
