"""Runs a reward function on given rollouts exactly as training would, and tells what came of it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlforge.rewards.python.scorer import PythonScorer
from rlforge.rewards.replies import rollouts_from_jsonl
from rlforge.rewards.router import Router
from rlforge.types import Rollout, Score

_EXAMPLES = 5
_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """How many values lie in [low, high]; low and high are equal where the function gave few distinct values."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An example of a rollout that stayed unscored."""

    task: str
    kind: str
    reason: str
    output: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """What a reward function did on some rollouts."""

    function: str
    rollouts: int
    outcomes: dict[str, int]
    """Rollouts by outcome: `scored`, or the error kind of the unscored; commonest first."""
    p50_s: float
    """Median seconds of one call, over those that returned."""
    p99_s: float
    max_s: float
    wall_s: float
    """Seconds for all rollouts together, starting the process apart."""
    mean: float | None
    """Of the values; None where nothing was scored."""
    std: float | None
    low: float | None
    high: float | None
    distribution: tuple[Bin, ...]
    failures: tuple[Failure, ...]
    """Examples, one of each kind first."""

    @property
    def scored(self) -> int:
        """How many rollouts have a value."""
        return self.outcomes.get("scored", 0)

    @property
    def ok(self) -> bool:
        """Whether every rollout was scored."""
        return self.scored == self.rollouts

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "scored": self.scored, "ok": self.ok}

    def rows(self) -> list[tuple[str, str]]:
        """Label and value, for a table."""
        rows = [("function", self.function), ("rollouts", str(self.rollouts))]
        rows += [(f"  {kind}", str(count)) for kind, count in self.outcomes.items()]
        rows += [("time per call", f"p50 {_ms(self.p50_s)}, p99 {_ms(self.p99_s)}, max {_ms(self.max_s)}")]
        rows += [("time in all", _ms(self.wall_s))]
        if self.mean is not None and self.std is not None:
            rows += [("reward", f"mean {self.mean:.4g}, std {self.std:.4g}, from {self.low:.4g} to {self.high:.4g}")]
        rows += [(f"  {_span(part)}", str(part.count)) for part in self.distribution]
        rows += [(f"unscored: {failure.task}", f"{failure.kind}: {failure.reason}") for failure in self.failures]
        return rows


def check_reward(function: str, rollouts: Sequence[Rollout], **settings: Any) -> CheckReport:
    """Judge `rollouts` with `FILE.py:function`; `settings` are those of scorer `python` (`timeout_s`, `workers`, …).

    Raises ConfigError when the function cannot be imported or called.
    """
    scorer = PythonScorer.Config.parse({"type": "python", "function": function, **settings})
    return asyncio.run(_check(Router.Config.parse({"scorers": [scorer]}), function, rollouts))


def run_check(function: str, path: str | Path, **settings: Any) -> CheckReport:
    """`check_reward` on the rollouts of a JSONL file (see `replies.py`). Raises DataError for a bad row."""
    return check_reward(function, rollouts_from_jsonl(path), **settings)


async def _check(config: Router.Config, function: str, rollouts: Sequence[Rollout]) -> CheckReport:
    router = Router(config)
    try:
        await router.start()
        started = time.perf_counter()
        rewards = await router.reward(rollouts)
        wall_s = time.perf_counter() - started
    finally:
        await router.close()
    return _report(function, rollouts, [reward.scores[0] for reward in rewards], wall_s)


def _report(function: str, rollouts: Sequence[Rollout], scores: Sequence[Score], wall_s: float) -> CheckReport:
    values = [score.value for score in scores if score.value is not None]
    seconds = sorted(score.seconds for score in scores if score.seconds > 0) or [0.0]
    return CheckReport(
        function=function,
        rollouts=len(rollouts),
        outcomes=dict(Counter(score.error_kind or "scored" for score in scores).most_common()),
        p50_s=statistics.median(seconds),
        p99_s=seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))],
        max_s=seconds[-1],
        wall_s=wall_s,
        mean=statistics.fmean(values) if values else None,
        std=statistics.pstdev(values) if values else None,
        low=min(values, default=None),
        high=max(values, default=None),
        distribution=_distribution(values),
        failures=_failures(rollouts, scores),
    )


def _distribution(values: Sequence[float]) -> tuple[Bin, ...]:
    """One bin per value where there are few of them, else bins of equal width."""
    counts = Counter(values)
    if len(counts) <= _BINS:
        return tuple(Bin(low=value, high=value, count=count) for value, count in sorted(counts.items()))
    low, width = min(values), (max(values) - min(values)) / _BINS
    places = Counter(min(int((value - low) / width), _BINS - 1) for value in values)
    return tuple(Bin(low=low + n * width, high=low + (n + 1) * width, count=places[n]) for n in range(_BINS))


def _failures(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> tuple[Failure, ...]:
    """Examples of unscored rollouts, the first of each kind before the second of any."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, Failure]] = []
    for rollout, score in zip(rollouts, scores, strict=True):
        if score.error_kind is not None:
            failure = Failure(task=rollout.task.id, kind=score.error_kind, reason=score.reason, output=score.output)
            ranked.append((seen[score.error_kind], failure))
            seen[score.error_kind] += 1
    return tuple(failure for _, failure in sorted(ranked, key=lambda pair: pair[0])[:_EXAMPLES])


def _span(part: Bin) -> str:
    return f"{part.low:.4g}" if part.low == part.high else f"{part.low:.4g} to {part.high:.4g}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
