"""What the rollouts of a step look like, as numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from rlforge.types import Group, Metrics, Rollout, StopReason


def rollout_metrics(groups: Sequence[Group]) -> Metrics:
    """Rewards per scorer, unscored share, lengths in tokens and endings of a step's rollouts."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    rewards = [r.reward.value for r in rollouts if r.reward is not None and r.reward.value is not None]
    metrics: Metrics = {
        "rollouts/count": float(len(rollouts)),
        "rollouts/unscored_share": 1.0 - len(rewards) / max(1, len(rollouts)),
        **_spread("reward", rewards),
        **_lengths(rollouts),
        **_endings(rollouts),
    }
    for scorer, values in sorted(_by_scorer(rollouts).items()):
        metrics |= _spread(f"score_{scorer}", values)
    return metrics | _faults(rollouts)


def _by_scorer(rollouts: Iterable[Rollout]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        for score in rollout.reward.scores if rollout.reward else ():
            if score.value is not None:
                values[score.scorer].append(score.value)
    return values


def _faults(rollouts: Iterable[Rollout]) -> Metrics:
    """Rollouts that a scorer left unscored, by kind."""
    scores = (score for rollout in rollouts for score in (rollout.reward.scores if rollout.reward else ()))
    count = Counter(f"unscored_{score.scorer}/{score.error_kind}" for score in scores if not score.scored)
    return {key: float(number) for key, number in sorted(count.items())}


def _spread(name: str, values: Sequence[float]) -> Metrics:
    if not values:
        return {}
    return {f"{name}/mean": float(np.mean(values)), f"{name}/std": float(np.std(values))}


def _lengths(rollouts: Sequence[Rollout]) -> Metrics:
    lengths = [sum(len(turn.completion.token_ids) for turn in rollout.turns) for rollout in rollouts]
    if not lengths:
        return {}
    return {
        "length/mean_tokens": float(np.mean(lengths)),
        "length/max_tokens": float(max(lengths)),
        "length/total_tokens": float(sum(lengths)),
        "rollouts/turns_mean": float(np.mean([len(rollout.turns) for rollout in rollouts])),
        "rollouts/turns_max": float(max(len(rollout.turns) for rollout in rollouts)),
        "rollouts/truncated_share": float(np.mean([rollout.truncated for rollout in rollouts])),
    }


def _endings(rollouts: Sequence[Rollout]) -> Metrics:
    count = Counter(rollout.stop_reason for rollout in rollouts)
    return {f"stop/{reason}_share": count[reason] / max(1, len(rollouts)) for reason in StopReason if count[reason]}
