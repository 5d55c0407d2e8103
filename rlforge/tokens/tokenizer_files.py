"""Makes and writes the tokenizers that `tokenizer.py` describes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from rlforge.errors import DataError
from rlforge.tokens.chat_template import CHATML
from rlforge.tokens.tokenizer import END_OF_TEXT, END_OF_TURN, SPECIAL_TOKENS, TEMPLATE_CHARACTERS, TokenizerConfig


def write_tokenizer(config: TokenizerConfig, texts: Iterable[str], folder: Path, context: int) -> int:
    """Make the tokenizer and write its four files; returns the vocabulary size."""
    tokenizer = _make(config, texts)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    special = {"eos_token": END_OF_TURN, "pad_token": END_OF_TEXT}
    _write(folder / "special_tokens_map.json", special)
    _write(folder / "tokenizer_config.json", {**special, **_settings(context)})
    return tokenizer.get_vocab_size(with_added_tokens=True)


def _make(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    match config.type:
        case "character":
            return _character(_alphabet(config.alphabet, texts))
        case "byte":
            return _byte_level(models.BPE(vocab=_numbered(sorted(pre_tokenizers.ByteLevel.alphabet())), merges=[]))
        case "bpe":
            return _trained(config.vocab_size, texts)


def _character(alphabet: list[str]) -> Tokenizer:
    # Without an unknown token an unknown character is an error where it happens, not a silent loss of text.
    tokenizer = Tokenizer(models.WordLevel(vocab=_numbered(alphabet), unk_token="<|no such token|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _alphabet(given: str | None, texts: Iterable[str]) -> list[str]:
    if given is None:
        return sorted(set(TEMPLATE_CHARACTERS).union(*texts))
    known = set(given) | set(TEMPLATE_CHARACTERS)
    for text in texts:
        unknown = sorted(set(text) - known)
        if unknown:
            names = ", ".join(repr(letter) for letter in unknown[:10])
            raise DataError(f"the tokenizer's alphabet lacks {names}, which the data uses in {text[:80]!r}; add them")
    return sorted(known)


def _trained(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_as_spoken(texts), trainer)
    return tokenizer


def _as_spoken(texts: Iterable[str]) -> Iterator[str]:
    """Texts with the roles that the template puts before them: a turn must not cost a token a letter."""
    for text in texts:
        yield from (text, "user\n", "assistant\n")


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _numbered(tokens: list[str]) -> dict[str, int]:
    """Special tokens first, so that their ids are the same in every tokenizer."""
    return {token: index for index, token in enumerate([*SPECIAL_TOKENS, *tokens])}


def _settings(context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
