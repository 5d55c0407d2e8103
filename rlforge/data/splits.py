"""Held-out splits: which part of a source an item belongs to, decided by what it asks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from rlforge.data.config import Item
from rlforge.types import Document, Message, Task


def split_of(question: str, splits: Mapping[str, float], seed: int = 0) -> str:
    """The split a question falls into: disjoint and exhaustive, the same on every machine and in every run.

    A hash of (seed, question) is a number in [0, 1); the splits in their order cut that range by their shares.
    """
    digest = hashlib.sha256(f"{seed}\x1f{question}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    edge = 0.0
    for name, share in splits.items():
        edge += share
        if place < edge:
            return name
    return list(splits)[-1]  # shares may add up to a hair less than 1


def question_of(item: Item) -> str:
    """What decides an item's split: the text that would leak if it were seen in training."""
    if isinstance(item, Document):
        return item.text
    if isinstance(item, Task):
        return _asked(item.messages) or item.id  # a world may be what asks
    replies = (index for index, message in enumerate(item.messages) if message.role == "assistant")
    return _asked(item.messages[: next(replies, len(item.messages)) or len(item.messages)])


def _asked(messages: tuple[Message, ...]) -> str:
    return "\x1e".join(f"{message.role}\x1f{message.text}" for message in messages)
