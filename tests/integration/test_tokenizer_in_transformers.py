"""Tokenizers made by us load unmodified in transformers and read the same there."""

from pathlib import Path

import pytest

from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import Message


@pytest.mark.parametrize("kind", ["character", "byte", "bpe"])
def test_prompt_equals_that_of_transformers(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    text = "1+2=3 ü\n the end"
    build_tokenizer(TokenizerConfig.parse({"type": kind}), [text], tmp_path, context=64)
    tokenizer, renderer = AutoTokenizer.from_pretrained(tmp_path), ChatRenderer.from_folder(tmp_path)
    messages = [Message.of("user", text), Message.of("assistant", "3"), Message.of("user", "tie")]
    plain = [{"role": message.role, "content": message.text} for message in messages]
    theirs = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert renderer.prompt(messages) == tuple(theirs)
    assert tokenizer.decode(theirs, skip_special_tokens=True) == renderer.decode(theirs)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.model_max_length) == (renderer.eos_id, 0, 64)
    assert len(tokenizer) == renderer.vocabulary
    if kind == "character":
        with pytest.raises(Exception, match="Missing"):  # an error there too, not an unknown token
            tokenizer.encode("€")
