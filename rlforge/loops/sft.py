"""Learning without collecting: supervised fine-tuning on conversations, and pre-training on text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from rlforge.data.mixture import Mixture
from rlforge.data.rows import as_conversation
from rlforge.loops.stage import StageConfig
from rlforge.loops.stage_run import StageRun
from rlforge.tokens.trajectories import conversation_trajectory, document_trajectories
from rlforge.types import Batch, Document, Objective, Task, Trajectory


class SFTConfig(StageConfig):
    """A stage that imitates: conversations under `sft`, plain text under `pretrain`."""

    type: Literal["sft", "pretrain"] = "sft"  # pyright: ignore[reportIncompatibleVariableOverride]
    batch_size: int = Field(default=64, ge=1)
    """Conversations (or pieces of text) per step."""
    max_tokens: int = Field(default=1024, ge=2)
    """Longest sequence, in tokens; a longer conversation is cut at its end, a document goes on in the next piece."""


OBJECTIVES = {"supervised": Objective(loss="cross_entropy", reduction="token_mean")}


async def run_sft(config: SFTConfig, run: StageRun, items: Mixture) -> None:
    """The whole stage: every step imitates the next `batch_size` items of the mixture."""
    async for step in run.steps():
        batch = Batch(trajectories=tuple(_pieces(config, run, items, step)), objectives=OBJECTIVES)
        with run.lap("learn"):
            metrics = await run.parts.learner.step(batch)
        run.record(metrics)


def _pieces(config: SFTConfig, run: StageRun, items: Mixture, step: int) -> Iterator[Trajectory]:
    """Trajectories of step `step` (from 1): a pure function of the step."""
    first = (step - 1) * config.batch_size
    for position in range(first, first + config.batch_size):
        item = items.at(position).item
        if isinstance(item, Document):
            yield from document_trajectories(item, run.parts.renderer, config.max_tokens)
        else:
            conversation = as_conversation(item) if isinstance(item, Task) else item
            yield conversation_trajectory(conversation, run.parts.renderer, config.max_tokens, truncate=True)
