"""Chat templates of three shapes, and a tokenizer of byte pairs trained on the spot for them."""

from __future__ import annotations

import json
from pathlib import Path

from rlforge.tokens.chat_template import CHATML
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer

LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}"
    "<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""Header ids, an end of turn of its own, and contents trimmed."""

FORGETS = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}"
    "{% if m.role == 'assistant' and '</think>' in m.content %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = m.content.split('</think>')[-1].lstrip('\n') %}"
    "<|im_start|>assistant\n{% if loop.index0 > ns.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ said }}"
    "{% elif m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Leaves out the reasoning of replies before the last user message."""

OPENS = FORGETS.replace(
    "{% if add_generation_prompt %}<|im_start|>assistant\n",
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n",
)
"""As `FORGETS`, and begins each reply's reasoning itself."""

TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "forgets": FORGETS, "opens": OPENS}

_CORPUS = [
    "the tool says that the light is green, so go on and take the next step; then look again and tell what you see",
    '<think>\nwhat would be best here?\n</think>\n\nI go left. <tool_call>\n{"name": "go"}\n</tool_call>',
    "</think>... well </think>... then",
    "assistant user system tool ipython 0 1 2 3 4 5 6 7 8 9 yes no left right up down north south",
]


def renderer_of(shape: str, folder: Path) -> ChatRenderer:
    """A renderer whose tokenizer has merges, so that most texts can be written in many ways."""
    build_tokenizer(TokenizerConfig(type="bpe", vocab_size=400), _CORPUS * 20, folder, context=8192)
    (folder / "chat_template.jinja").write_text(TEMPLATES[shape])
    if shape == "llama":
        _add_special(folder, ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    return ChatRenderer.from_folder(folder)


def _add_special(folder: Path, tokens: list[str]) -> None:
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token": tokens[0], "eos_token": tokens[-1]}))
