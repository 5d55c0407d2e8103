"""What a step's rewards looked like, as metrics."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from rlforge.types import Metrics, Reward


def reward_metrics(rewards: Sequence[Reward | None]) -> Metrics:
    """Mean and standard deviation of the rewards and of each scorer's values, with the unscored share of both.

    Keys: `reward/mean`, `reward/std`, `reward/unscored_share`, and `score/<scorer>_mean` and so on. Mean and std are
    left out where nothing was scored: a missing reward is not a zero. The std is the population's.
    """
    metrics = _spread("reward/", [reward.value if reward else None for reward in rewards])
    by_scorer: defaultdict[str, list[float | None]] = defaultdict(list)
    for reward in rewards:
        for score in reward.scores if reward else ():
            by_scorer[score.scorer].append(score.value)
    for scorer in sorted(by_scorer):
        metrics |= _spread(f"score/{scorer}_", by_scorer[scorer])
    return metrics


def _spread(prefix: str, values: Sequence[float | None]) -> Metrics:
    scored = [value for value in values if value is not None]
    if not values:
        return {}
    metrics = {f"{prefix}unscored_share": 1 - len(scored) / len(values)}
    if scored:
        metrics |= {f"{prefix}mean": statistics.fmean(scored), f"{prefix}std": statistics.pstdev(scored)}
    return metrics
