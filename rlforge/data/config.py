"""What every data source can be told in a recipe."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from rlforge.config import PartConfig
from rlforge.registry import suggest
from rlforge.types import Conversation, Document, Task

Item: TypeAlias = Task | Conversation | Document
Kind: TypeAlias = Literal["tasks", "conversations", "documents"]

KINDS: dict[type[Item], Kind] = {Task: "tasks", Conversation: "conversations", Document: "documents"}


class SourceConfig(PartConfig):
    """Base of every source's configuration."""

    name: str = ""
    """Name in metrics and at the head of item ids (`addition/17`); empty takes the source's own, a file's for
    instance."""
    weight: float = Field(1.0, gt=0)
    """Share of draws relative to the other sources of the stage."""
    splits: dict[str, float] | None = None
    """Names and shares of disjoint parts that together are the whole source, for instance
    `{train: 0.8, held_out: 0.1, stop: 0.1}`. Which part an item belongs to depends on its question alone (a task's
    prompt, a conversation's messages before the first reply, a document's text), so that duplicates stay together and
    two sources with the same questions are split alike."""
    split: str | None = None
    """The part to use; needed with `splits`."""
    split_seed: int = 0
    """Another seed gives other parts."""
    limit: int | None = Field(None, ge=1)
    """Use only the first so many items of the part."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """`refuse` stops at the first bad row and names it; `skip` leaves bad rows out, counts them and names each."""

    @model_validator(mode="after")
    def _splits_are_shares(self) -> SourceConfig:
        if self.splits is None:
            if self.split is not None:
                raise ValueError(
                    f"split '{self.split}' of what? Give splits too, such as {{train: 0.9, held_out: 0.1}}"
                )
            return self
        if any(share <= 0 for share in self.splits.values()):
            raise ValueError(f"every share of splits must be above 0: {self.splits}")
        if abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of splits add up to {sum(self.splits.values()):g}, not 1: {self.splits}")
        if self.split is None:
            raise ValueError(f"splits without split: say which part to use: {', '.join(self.splits)}")
        if self.split not in self.splits:
            known = ", ".join(self.splits)
            raise ValueError(f"unknown split '{self.split}'. {suggest(self.split, self.splits)}Known: {known}")
        return self
