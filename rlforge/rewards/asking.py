"""Asks one scorer: a bounded number of calls, faults turned into typed outcomes, retries of those that may pass."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import replace

from rlforge.config import build
from rlforge.deadlines import deadline
from rlforge.errors import (
    DataError,
    DeadlineExceeded,
    EndpointError,
    ExtensionError,
    GenerationError,
    SandboxError,
    boundary,
)
from rlforge.interfaces import Scorer
from rlforge.registry import SCORERS
from rlforge.rewards.config import ScorerConfig
from rlforge.types import Rollout, Score

CLOSE_S = 20.0
"""Seconds a scorer may take to free what it holds; the part it runs in has a little longer."""
_BACKOFF_S = 0.1
_SLACK_S = 120.0
_RESTART_S = 5.0
"""A call may wait its turn behind all that is under way, each of which may overrun and have a process started anew:
a scorer that takes longer than that has forgotten us."""


_FAULTS = (DataError, EndpointError, ExtensionError, GenerationError, SandboxError)
"""What says something about these rollouts or this moment alone; any other error of ours ends the run."""


class Asked:
    """A scorer as the router sees it: it always answers, with one score per rollout."""

    def __init__(self, config: ScorerConfig, concurrency: int, scorer: Scorer | None = None) -> None:
        self.config = config
        self.scorer: Scorer = scorer or build(SCORERS, config)
        self._slots = asyncio.Semaphore(concurrency)
        self._under_way_s = 0.0

    async def start(self) -> None:
        """Start the scorer; what is none of our errors is told as its own."""
        with boundary(f"scorer '{self.config.label}'", on="starting"):
            await self.scorer.start()

    async def close(self) -> None:
        """Close the scorer; what is none of our errors is told as its own. Raises DeadlineExceeded when it hangs."""
        async with deadline(CLOSE_S, f"scorer '{self.config.label}' to close"):
            with boundary(f"scorer '{self.config.label}'", on="closing"):
                await self.scorer.close()

    async def scores(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order, after at most `attempts` tries of those whose fault may pass."""
        scores = await self._call(rollouts)
        for attempt in range(2, self.config.attempts + 1):
            again = [index for index, score in enumerate(scores) if not score.scored and score.retryable]
            if not again:
                break
            await asyncio.sleep(_BACKOFF_S * 2 ** (attempt - 2) * (0.5 + random.random()))
            retried = await self._call([rollouts[index] for index in again])
            for index, score in zip(again, retried, strict=True):
                scores[index] = replace(score, attempts=attempt)
        return scores

    async def _call(self, rollouts: Sequence[Rollout]) -> list[Score]:
        label = self.config.label
        async with self._slots:
            longest_s = sum([self.config.longest_s(rollout) + _RESTART_S for rollout in rollouts])
            self._under_way_s += longest_s
            limit_s = 2 * self._under_way_s + _SLACK_S + self.config.patience_s
            try:
                async with deadline(limit_s, f"scorer '{label}' to judge {len(rollouts)} rollouts"):
                    with boundary(f"scorer '{label}'", on=f"{len(rollouts)} rollouts"):
                        scores = await self.scorer.score(rollouts)
            except DeadlineExceeded as error:
                return [_unscored(label, "timeout", str(error))] * len(rollouts)
            except _FAULTS as error:
                return [_unscored(label, "exception", str(error))] * len(rollouts)
            finally:
                self._under_way_s -= longest_s
        if len(scores) != len(rollouts):
            why = f"scorer '{label}' gave {len(scores)} scores for {len(rollouts)} rollouts; it must give one each"
            return [_unscored(label, "malformed", why)] * len(rollouts)
        return [_vetted(label, score) for score in scores]


def _vetted(label: str, score: Score) -> Score:
    if score.value is None or math.isfinite(score.value):
        return score if score.scorer == label else replace(score, scorer=label)
    return _unscored(label, "malformed", f"the value is {score.value}; it must be finite")


def _unscored(label: str, kind: str, reason: str) -> Score:
    return Score(scorer=label, error_kind=kind, reason=reason)
