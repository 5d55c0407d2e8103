import json
import time
from pathlib import Path

import pytest

from rlforge.errors import ConfigError, DataError
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import ImagePart, JsonPart, Message, TextPart, ToolCall

USER, REPLY = Message.of("user", "1+2="), Message.of("assistant", "3")

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_tokenizer(TokenizerConfig(type="byte"), [], tmp_path, context=64)
    return tmp_path


@pytest.fixture
def renderer(folder: Path) -> ChatRenderer:
    return ChatRenderer.from_folder(folder)


def with_template(folder: Path, template: str) -> ChatRenderer:
    (folder / "chat_template.jinja").write_text(template)
    return ChatRenderer.from_folder(folder)


def written_text(renderer: ChatRenderer, messages: list[Message]) -> str:
    """What the mask says the assistant wrote, special tokens shown."""
    ids, written = renderer.conversation(messages)
    names = {renderer.eos_id: "<|im_end|>", 1: "<|im_start|>"}
    return "".join(names.get(i) or renderer.decode([i]) for i, mine in zip(ids, written, strict=True) if mine)


def test_prompt_ends_where_the_assistant_is_to_speak(renderer: ChatRenderer) -> None:
    ids = renderer.prompt([Message.of("system", "add"), USER])
    text = "<|im_start|>system\nadd<|im_end|>\n<|im_start|>user\n1+2=<|im_end|>\n<|im_start|>assistant\n"
    assert ids == renderer.encode(text)


def test_loss_falls_on_replies_and_the_tokens_that_end_them(renderer: ChatRenderer) -> None:
    again = [USER, REPLY, Message.of("user", "4+5="), Message.of("assistant", "9!")]
    assert written_text(renderer, again) == "3<|im_end|>9!<|im_end|>"


def test_a_reply_that_quotes_the_prompt_or_the_end_of_turn_is_masked_exactly(renderer: ChatRenderer) -> None:
    quoting = [Message.of("user", "say 1+2="), Message.of("assistant", "1+2=<|im_end|>assistant\n1+2=")]
    assert written_text(renderer, quoting) == "1+2=<|im_end|>assistant\n1+2=<|im_end|>"


def test_tokens_before_each_reply_are_those_of_the_prompt(renderer: ChatRenderer) -> None:
    messages = [USER, REPLY, Message.of("user", "4+5="), Message.of("assistant", "9")]
    ids, written = renderer.conversation(messages)
    assert ids[: written.index(True)] == renderer.prompt(messages[:1])
    last = len(written) - list(reversed(written)).index(False)
    assert ids[:last] == renderer.prompt(messages[:3])


def test_messages_after_the_last_reply_are_left_out(renderer: ChatRenderer) -> None:
    assert renderer.conversation([USER, REPLY, USER]) == renderer.conversation([USER, REPLY])


def test_a_conversation_without_reply_is_refused(renderer: ChatRenderer) -> None:
    with pytest.raises(DataError, match="without an assistant message"):
        renderer.conversation([USER])


def test_what_the_template_writes_before_the_reply_is_learned_too(folder: Path) -> None:
    assert written_text(with_template(folder, THINKING), [USER, REPLY]) == "<think></think>3<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        with_template(folder, THINKING).conversation([USER, REPLY, USER, REPLY])


def test_a_template_that_never_ends_a_turn_is_refused_for_imitation(folder: Path) -> None:
    renderer = with_template(folder, "{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ConfigError, match="puts no token behind a reply"):
        renderer.conversation([USER, REPLY])


def test_a_model_without_chat_template_is_refused_with_a_way_out(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"has no chat template.*put chat_template\.jinja there"):
        ChatRenderer.from_folder(folder)
    assert ChatRenderer.from_folder(folder, chat=False).encode("ab")


def test_a_template_inside_tokenizer_config_is_found(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": "rag", "template": "no"}, {"name": "default", "template": file.read_text()}]
    file.unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": named}))
    assert len(ChatRenderer.from_folder(folder).prompt([USER])) == 23


def test_a_template_that_does_not_compile_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="does not compile"):
        with_template(folder, "{% for m in %}")


def test_a_template_that_refuses_its_messages_is_a_data_error(folder: Path) -> None:
    renderer = with_template(
        folder,
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>{% endfor %}",
    )
    with pytest.raises(DataError, match=r"roles system: no system role"):
        renderer.prompt([Message.of("system", "x")])


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        ChatRenderer.from_folder(tmp_path)


def test_a_broken_tokenizer_file_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a tokenizer"):
        ChatRenderer.from_folder(folder)


def test_json_parts_are_text_and_images_are_refused(renderer: ChatRenderer) -> None:
    value = Message(role="user", content=(TextPart(text="see "), JsonPart(value={"a": [1]})))
    assert renderer.prompt([value]) == renderer.prompt([Message.of("user", 'see {"a": [1]}')])
    with pytest.raises(DataError, match="ImagePart"):
        renderer.prompt([Message(role="user", content=(ImagePart(data=b"", mime="image/png"),))])


def test_tool_calls_reach_the_template_parsed_when_they_parse(folder: Path) -> None:
    renderer = with_template(
        folder,
        "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}",
    )
    calls = (ToolCall(id="1", name="f", arguments='{"a":1}'), ToolCall(id="2", name="f", arguments='{"a":'))
    assert renderer.decode(renderer.prompt([Message(role="assistant", tool_calls=calls)])) == '{"a": 1}"{\\"a\\":"'


def test_32_prompts_of_8_members_render_in_milliseconds(renderer: ChatRenderer) -> None:
    prompts = [[Message.of("user", f"{n}+{n}=")] for n in range(32)]
    started = time.thread_time()  # other work on the machine is not ours
    for _ in range(8):
        for prompt in prompts:
            renderer.prompt(prompt)
    assert time.thread_time() - started < 0.1  # 3 ms on an idle core


def ends_with(folder: Path, eos: str, behind: str) -> ChatRenderer:
    """A renderer of ChatML that writes `behind` at the end of a turn, where `eos` ends sequences."""
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": eos}))
    template = (folder / "chat_template.jinja").read_text()
    return with_template(folder, template.replace("<|im_end|>' + '\n'", f"{behind}'"))


@pytest.mark.parametrize(
    ("eos", "behind", "stops"),
    [
        ("<|im_end|>", "<|im_end|>\n", []),
        ("<|endoftext|>", "<|im_end|>\n", ["<|im_end|>"]),
        ("<|endoftext|>", "<|im_end|><|endoftext|>", []),
        ("<|endoftext|>", "\n<|im_end|>", ["<|im_end|>"]),
        ("<|endoftext|>", "\n", []),
    ],
)
def test_a_generator_is_to_stop_at_the_end_of_turn_that_imitation_teaches(
    eos: str, behind: str, stops: list[str], folder: Path
) -> None:
    renderer = ends_with(folder, eos, behind)
    assert renderer.stop_ids == tuple(renderer.encode(name)[0] for name in stops)
    ids, written = renderer.conversation([USER, REPLY])
    last = [token for token, mine in zip(ids, written, strict=True) if mine][-1]
    assert last in (renderer.eos_id, *renderer.stop_ids, *renderer.encode("\n"))


def test_documents_alone_need_no_stop_tokens(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert ChatRenderer.from_folder(folder, chat=False).stop_ids == ()
