import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlforge.errors import ConfigError, DataError
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import Message

TEXTS = ["12+34=", "46", "the quick brown fox", "the lazy dog, the end\n"]
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: "<|" not in text)


def made(folder: Path, **config: object) -> ChatRenderer:
    build_tokenizer(TokenizerConfig.parse(config), TEXTS, folder, context=64)
    return ChatRenderer.from_folder(folder)


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatRenderer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        "character": made(folder / "character", type="character"),
        "byte": made(folder / "byte", type="byte"),
        "bpe": made(folder / "bpe", type="bpe", vocab_size=280),
    }


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@given(text=ANYTHING)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_byte_and_bpe_tokens(renderers: dict[str, ChatRenderer], kind: str, text: str) -> None:
    assert renderers[kind].decode(renderers[kind].encode(text)) == text


@given(text=st.text(alphabet=sorted(set("".join(TEXTS))), max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_of_the_alphabet_survives_character_tokens(renderers: dict[str, ChatRenderer], text: str) -> None:
    ids = renderers["character"].encode(text)
    assert renderers["character"].decode(ids) == text
    assert len(ids) == len(text)


def test_a_character_without_token_is_an_error_that_names_it(renderers: dict[str, ChatRenderer]) -> None:
    with pytest.raises(DataError, match=r"no token for 'ß', '€', met in '1€ß'"):
        renderers["character"].encode("1€ß")


def test_a_two_digit_addition_takes_25_character_tokens(renderers: dict[str, ChatRenderer]) -> None:
    assert len(renderers["character"].prompt([Message.of("user", "12+34=")])) == 25


def test_bpe_merges_what_is_frequent(renderers: dict[str, ChatRenderer]) -> None:
    assert renderers["bpe"].vocabulary == 280
    assert len(renderers["bpe"].encode("the")) < 3


def test_bpe_spends_one_token_on_the_name_of_a_role(tmp_path: Path) -> None:
    renderer = made(tmp_path, type="bpe", vocab_size=300)
    assert [len(renderer.encode(role)) for role in ("user", "assistant")] == [1, 1]


def test_special_tokens_have_the_same_ids_in_every_tokenizer(renderers: dict[str, ChatRenderer]) -> None:
    for renderer in renderers.values():
        assert renderer.encode("<|endoftext|><|im_start|><|im_end|>") == (0, 1, 2)
        assert renderer.eos_id == 2
        assert renderer.decode((0, 1, 2)) == ""


def test_byte_tokenizer_has_256_bytes_and_three_special_tokens(renderers: dict[str, ChatRenderer]) -> None:
    assert renderers["byte"].vocabulary == 259


@pytest.mark.parametrize("config", [{"type": "character"}, {"type": "bpe", "vocab_size": 280}])
def test_the_same_texts_give_the_same_files_in_another_process(tmp_path: Path, config: dict[str, object]) -> None:
    program = (
        "import json, sys; from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer;"
        "build_tokenizer(TokenizerConfig.parse(json.loads(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3], 64)"
    )
    arguments = [json.dumps(config), json.dumps(TEXTS), str(tmp_path / "other")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, timeout=60)
    made(tmp_path / "here", **config)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_data_beyond_a_given_alphabet_is_refused(tmp_path: Path) -> None:
    config = TokenizerConfig(type="character", alphabet="0123456789+=")
    with pytest.raises(DataError, match="alphabet lacks '-', which the data uses in '3-1='"):
        build_tokenizer(config, ["1+2=", "3-1="], tmp_path, context=64)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "byte", "alphabet": "abc"}, "alphabet belongs to type character"),
        ({"type": "character", "vocab_size": 300}, "vocab_size belongs to type bpe"),
        ({"type": "bpe", "vocab_size": 100}, "vocab_size=100: input should be greater than or equal to 259"),
    ],
)
def test_settings_that_do_not_apply_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TokenizerConfig.parse(config)


def test_config_imports_nothing_heavy() -> None:
    program = (
        "import sys, rlforge.tokens.tokenizer; sys.exit(bool({'tokenizers', 'transformers', 'torch'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
