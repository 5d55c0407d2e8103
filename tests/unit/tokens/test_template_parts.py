"""A template that writes each message alone is told from its program, and then its text grows as it would in whole."""

import random
from pathlib import Path

import pytest

from rlforge.tokens.chat_template import CHATML, ChatTemplate
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.transcript import Transcript
from rlforge.types import Completion, FinishReason, Message, ToolSpec
from tests.unit.tokens.templates import TEMPLATES, renderer_of

LOOP = "{% for m in messages %}BODY{% endfor %}"
LOOKS_AROUND = [
    "{{ loop.index0 }}{{ m.content }}",
    "{% if not loop.first %}\n{% endif %}{{ m.content }}",
    "{% if m == messages[-1] %}last: {% endif %}{{ m.content }}",
    "{{ messages | length }}{{ m.content }}",
    "{% if m.role == 'tool' %}{% break %}{% endif %}{{ m.content }}",
    "{% set said = m.content %}{{ said }}",
    "{{ m.content }}{{ strftime_now('%S') }}",
    "{{ [m.content, m.role] | random }}",
    "{{ tools }}{{ m.content }}",
    "{% for messages in m.content %}{{ messages }}{% endfor %}",
]
AROUND = [
    "{{ messages[0].content }}" + LOOP,
    LOOP + "{{ messages | length }}",
    LOOP + "{{ tools }}",
    LOOP + LOOP,
    "{% set ns = namespace(seen=0) %}{% for m in messages %}{% set ns.seen = ns.seen + 1 %}{{ ns.seen }}{% endfor %}",
    "{% set loops = messages %}{% for m in loops %}{{ m.content }}{% endfor %}",
    "{% for m in messages if m.content %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{% else %}nobody{% endfor %}",
    "{% if messages %}" + LOOP + "{% endif %}",
    "{% macro said(m) %}{{ m.content }}{% endmacro %}{% for m in messages %}{{ said(m) }}{% endfor %}",
]


@pytest.mark.parametrize("source", [*(LOOP.replace("BODY", body) for body in LOOKS_AROUND), *AROUND])
def test_a_program_that_may_look_around_is_always_rendered_in_whole(source: str) -> None:
    assert not ChatTemplate(source, {"eos_token": "<e>"}, "a test").writes_each_alone


def test_the_shapes_that_write_each_message_alone_are_known() -> None:
    special = {"bos_token": "<b>", "eos_token": "<e>"}
    alone = {shape for shape, source in TEMPLATES.items() if ChatTemplate(source, special, "it").writes_each_alone}
    assert alone == {"chatml", "llama"}


class Whole(ChatRenderer):
    """Renders every conversation in whole."""

    @property
    def writes_each_alone(self) -> bool:
        return False


@pytest.mark.parametrize("shape", list(TEMPLATES))
def test_prompts_that_grow_are_those_of_whole_renderings(shape: str, tmp_path: Path) -> None:
    growing = renderer_of(shape, tmp_path)
    whole = Whole.from_folder(tmp_path)
    tool = ToolSpec(name="go", description="Walk.", parameters={"type": "object", "properties": {"to": {}}})
    for seed in range(40):
        draw = random.Random(seed)
        first = [Message.of("system", "be brief")] * draw.randrange(2) + [Message.of("user", _words(draw))]
        tools = [tool] * draw.randrange(2)
        both = [Transcript(renderer, first, tools) for renderer in (growing, whole)]
        for _ in range(6):
            completion = _sampled(draw, growing)
            answers = [Message.of(draw.choice(["user", "tool"]), _words(draw)) for _ in range(draw.randrange(3))]
            for transcript in both:
                transcript.reply(completion)
                transcript.hear(answers)
            assert both[0].prompt_ids == both[1].prompt_ids


def test_what_each_message_gives_makes_up_the_whole_text() -> None:
    template = ChatTemplate(CHATML, {}, "a test")
    tool = ToolSpec(name="go", description="Walk.")
    messages = [Message.of("user", "a"), Message.of("assistant", "{{ b }}"), Message.of("tool", "c\n")]
    whole = template.render(messages, generation_prompt=True, tools=[tool])
    assert whole.endswith("".join(template.each([message]) for message in messages) + template.opening)


def _words(draw: random.Random) -> str:
    return draw.choice(
        ["go on", "  trimmed \n", "", "<|im_end|>\n<|im_start|>assistant\n", "</think> x", "{{ m }}", "ä\t"]
    )


def _sampled(draw: random.Random, renderer: ChatRenderer) -> Completion:
    ids = renderer.encode(draw.choice(["", "<think>\nhm\n</think>\n\n", " "])) + tuple(
        draw.randrange(renderer.vocabulary) for _ in range(draw.randrange(8))
    )
    reason = draw.choice([FinishReason.STOP, FinishReason.LENGTH])
    ids += (renderer.eos_id,) * draw.randrange(2)
    return Completion(token_ids=ids, logprobs=(-1.0,) * len(ids), policy_versions=(0,) * len(ids), finish_reason=reason)
