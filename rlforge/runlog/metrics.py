"""metrics.jsonl: one line a step, and one line an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlforge.runlog import schema
from rlforge.runlog.lines import JsonLines
from rlforge.types import Metrics

_PLACE = ("schema", "stage", "step", "evaluation")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsRecord:
    """What was measured at one place of a run."""

    stage: str
    step: int
    """Optimizer steps done in the stage; evaluations before the first step say 0."""
    metrics: Metrics
    """NaN where something could not be measured."""
    evaluation: str | None = None
    """Name of the evaluation, None for a training step."""


class MetricsLog:
    """The metrics of a run, in the order they were written."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, schema.METRICS)

    def append(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        *,
        evaluation: str | None = None,
        durable: bool = False,
    ) -> None:
        """Add the metrics of a step, or of an evaluation after it."""
        place: dict[str, Any] = {"stage": stage, "step": step}
        if evaluation is not None:
            place["evaluation"] = evaluation
        self._lines.append({**place, **metrics}, durable=durable)

    def records(self, stage: str | None = None, *, evaluation: str | None = None) -> list[MetricsRecord]:
        """Records of a stage (or of all): those of training steps, or those of the named evaluation."""
        every = (_record(line) for line in self._lines.read())
        return [r for r in every if r.evaluation == evaluation and stage in (None, r.stage)]

    def evaluations(self, stage: str | None = None) -> list[MetricsRecord]:
        """Records of every evaluation of a stage (or of all)."""
        every = (_record(line) for line in self._lines.read())
        return [r for r in every if r.evaluation is not None and stage in (None, r.stage)]

    def truncate_after(self, stage: str, step: int) -> int:
        """Forget everything after `step` of `stage`, later stages included; returns how many lines went.

        Step -1 forgets the stage itself.
        """
        places = [(line["stage"], line["step"]) for line in self._lines.read()]
        first = next((index for index, place in enumerate(places) if place[0] == stage), len(places))
        kept = max(
            (index + 1 for index, place in enumerate(places) if place[0] == stage and place[1] <= step), default=first
        )
        return self._lines.truncate(kept)

    def repair(self) -> int:
        """Cut off a half-written last line; returns how many bytes went."""
        return self._lines.repair()


def _record(line: dict[str, Any]) -> MetricsRecord:
    measured = {key: math.nan if value is None else value for key, value in line.items() if key not in _PLACE}
    return MetricsRecord(stage=line["stage"], step=line["step"], evaluation=line.get("evaluation"), metrics=measured)
