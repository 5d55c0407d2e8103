"""Learning without collecting: supervised fine-tuning on conversations, and pre-training on text."""

from typing import Literal

from pydantic import Field

from rlforge.loops.stage import StageConfig


class SFTConfig(StageConfig):
    """A stage that imitates: conversations under `sft`, plain text under `pretrain`."""

    type: Literal["sft", "pretrain"] = "sft"  # pyright: ignore[reportIncompatibleVariableOverride]
    batch_size: int = Field(default=64, ge=1)
    """Conversations (or pieces of text) per step."""
    max_tokens: int = Field(default=1024, ge=2)
    """Longest sequence, in tokens; a longer conversation is cut at its end, a document goes on in the next piece."""
