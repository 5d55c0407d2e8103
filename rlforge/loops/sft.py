"""Learning without collecting: supervised fine-tuning on conversations, and pre-training on text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from rlforge.data.config import Item
from rlforge.data.mixture import Mixture
from rlforge.data.rows import as_conversation
from rlforge.errors import DataError
from rlforge.loops.stage import StageConfig
from rlforge.loops.stage_run import StageRun
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.trajectories import conversation_trajectory, document_trajectories
from rlforge.types import Batch, Document, Metrics, Objective, Task, Trajectory

_MAX_TOKENS = 1024


class SFTConfig(StageConfig):
    """A stage that imitates: conversations under `sft`, plain text under `pretrain`."""

    type: Literal["sft", "pretrain"] = "sft"  # pyright: ignore[reportIncompatibleVariableOverride]
    batch_size: int = Field(default=64, ge=1)
    """Conversations or documents per step. A document is learned whole, however many sequences it makes."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Longest sequence, in tokens; a longer conversation is cut at its end, a document goes on in the next sequence.
    Unset: 1024, or the model's context where that is shorter."""

    def longest(self, context: int | None) -> int:
        """Tokens of a sequence at most, under a model with so many positions; None where that is not known."""
        return self.max_tokens or min(_MAX_TOKENS, context or _MAX_TOKENS)


OBJECTIVES = {"supervised": Objective(loss="cross_entropy", reduction="token_mean")}


async def run_sft(config: SFTConfig, run: StageRun, items: Mixture) -> None:
    """The whole stage: every step imitates the next `batch_size` items of the mixture.

    Raises DataError for an item with nothing to learn from, unless its source skips bad rows, and for a step of
    nothing else.
    """
    imitated = Imitated(config, items, run.parts.renderer, run.parts.context)
    told: set[str] = set()
    async for step in run.steps():
        made, left_out = imitated.at(step)
        _tell(run, step, [row for row in left_out if row not in told])
        told.update(left_out)
        with run.lap("learn"):
            metrics = await run.parts.learner.step(Batch(trajectories=made, objectives=OBJECTIVES))
        run.record(metrics | left_out_metrics(left_out))


class Imitated:
    """What each step imitates: a pure function of the step, so that a resumed stage goes on with the same."""

    def __init__(self, config: SFTConfig, items: Mixture, renderer: ChatRenderer, context: int | None) -> None:
        self._config = config
        self._items = items
        self._renderer = renderer
        self._longest = config.longest(context)
        self._may_skip = {
            name
            for name, source in zip(items.names, config.data, strict=True)
            if getattr(source, "on_bad_row", "refuse") == "skip"
        }

    def at(self, step: int) -> tuple[tuple[Trajectory, ...], tuple[str, ...]]:
        """Trajectories of step `step` (from 1), and a line for each item that was left out: which and why."""
        made: list[Trajectory] = []
        left_out: list[str] = []
        first = (step - 1) * self._config.batch_size
        for drawn in self._items.slice(first, first + self._config.batch_size):
            try:
                made += self._sequences(drawn.item)
            except DataError as error:
                if drawn.source not in self._may_skip:
                    raise DataError(f"{error}; mend it, or set on_bad_row: skip on source '{drawn.source}'") from error
                left_out.append(str(error))
        if not made:
            first_of = next(iter(left_out), "documents without a token")
            raise DataError(f"step {step} has nothing to learn from; the first of its items: {first_of}")
        return tuple(made), tuple(left_out)

    def _sequences(self, item: Item) -> Iterable[Trajectory]:
        if isinstance(item, Document):
            return document_trajectories(item, self._renderer, self._longest)
        conversation = as_conversation(item) if isinstance(item, Task) else item
        return (conversation_trajectory(conversation, self._renderer, self._longest, truncate=True),)


def left_out_metrics(rows: tuple[str, ...]) -> Metrics:
    """How many items a step left out; nothing where it left out none."""
    return {"data/left_out": float(len(rows))} if rows else {}


def _tell(run: StageRun, step: int, rows: list[str]) -> None:
    if rows:
        said = f"stage '{run.config.name}', step {step}: left out {len(rows)} bad rows, the first: {rows[0]}"
        run.parts.folder.events.append("rows_skipped", said, rows=rows)
