"""Tokenizers made on the spot for models made from scratch: characters, bytes, or byte pairs learned from the data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rlforge.config import BaseConfig

END_OF_TEXT = "<|endoftext|>"
START_OF_TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, START_OF_TURN, END_OF_TURN)
"""Ids 0 (padding), 1 and 2 (end of sequence) in every tokenizer made here."""

TEMPLATE_CHARACTERS = "".join(sorted(set("system" + "user" + "assistant" + "tool" + "\n")))
"""What ChatML writes besides its special tokens: a character tokenizer needs a token for each."""

SMALLEST_BPE = len(SPECIAL_TOKENS) + 256


class TokenizerConfig(BaseConfig):
    """Which tokenizer to make. Example: `{type: character, alphabet: "0123456789+="}`."""

    type: Literal["character", "byte", "bpe"] = "character"
    """`character`: one token per character, exactly those the data uses; the easiest for a tiny model to learn.
    `byte`: one token per UTF-8 byte, reads anything. `bpe`: byte pairs merged as often as `vocab_size` allows."""
    vocab_size: int = Field(default=4096, ge=SMALLEST_BPE)
    """Number of tokens, the three special ones and 256 bytes included; only for `bpe`."""
    alphabet: str | None = None
    """The characters to know, only for `character`; None collects them from the data."""

    @model_validator(mode="after")
    def _only_where_it_counts(self) -> TokenizerConfig:
        if self.alphabet is not None and self.type != "character":
            raise ValueError(f"alphabet belongs to type character, not {self.type}; leave it out")
        if self.type != "bpe" and self.vocab_size != type(self).model_fields["vocab_size"].default:
            raise ValueError(f"vocab_size belongs to type bpe; a {self.type} tokenizer has as many tokens as it needs")
        return self


def build_tokenizer(config: TokenizerConfig, texts: Iterable[str], folder: str | Path, context: int) -> int:
    """Write a Hugging Face tokenizer folder that reads `texts`, with a ChatML template; returns the vocabulary size.

    Deterministic: the same texts give the same files, byte for byte. `context` is the model's length in tokens.
    Raises DataError for a character beyond a given alphabet.
    """
    from rlforge.tokens.tokenizer_files import write_tokenizer  # tokenizers is no part of the light core

    return write_tokenizer(config, texts, Path(folder), context)
