"""Judging stored rollouts anew, with another recipe's scorers, without generating anything."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rlforge.errors import ConfigError, RunError
from rlforge.recipe import Recipe
from rlforge.rewards.router import Router
from rlforge.run.parts import rewards_of
from rlforge.runlog.atomic import write_text
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.rollouts import write_rollouts
from rlforge.types import Group, GroupRequest, Rollout

FOLDER = "rescored"
"""Beside the run's own rollouts, one folder for each time somebody asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """What a scorer, or the reward, made of some rollouts."""

    rollouts: int
    scored: int
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    median: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rescored:
    """What rescoring found; None where a scorer had no say before, or has none now."""

    run: str
    kept_in: str
    """Folder of the new scores, laid out as the run's `rollouts/`."""
    steps: dict[str, list[int]]
    """Steps judged anew, by stage."""
    rollouts: int
    before: dict[str, Distribution]
    """By scorer; `reward` is what they add up to."""
    after: dict[str, Distribution]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


async def rescore(folder: RunFolder, recipe: Recipe, *, stage: str | None = None, step: int | None = None) -> Rescored:
    """Judge the stored rollouts of a run; new scores are written beside the old ones, which stay as they are.

    Raises RunError when there are none, ConfigError when the recipe names no scorer or one that only a run can start.
    """
    steps = _steps(folder, stage, step)
    kept_in = _new_folder(folder, recipe)
    before: list[Rollout] = []
    after: list[Rollout] = []
    for name, numbers in steps.items():
        router = Router(_rewards(recipe, name))
        try:
            await router.start()
            for number in numbers:
                old = folder.rollouts(name, number)
                rewards = await router.reward(old)
                new = [replace(rollout, reward=reward) for rollout, reward in zip(old, rewards, strict=True)]
                write_rollouts(kept_in / f"{name}-{number:06d}.parquet", _groups(new))
                before += old
                after += new
        finally:
            await router.close()
    return Rescored(
        run=str(folder.path),
        kept_in=str(kept_in),
        steps=steps,
        rollouts=len(after),
        before=distributions(before),
        after=distributions(after),
    )


def distributions(rollouts: Sequence[Rollout]) -> dict[str, Distribution]:
    """Values of the reward and of every scorer."""
    values: dict[str, list[float | None]] = {"reward": [r.reward.value if r.reward else None for r in rollouts]}
    for rollout in rollouts:
        for score in rollout.reward.scores if rollout.reward else ():
            values.setdefault(score.scorer, []).append(score.value)
    return {name: _distribution(found) for name, found in values.items()}


def _distribution(found: Sequence[float | None]) -> Distribution:
    values = [value for value in found if value is not None]
    if not values:
        return Distribution(rollouts=len(found), scored=0)
    return Distribution(
        rollouts=len(found),
        scored=len(values),
        mean=statistics.fmean(values),
        std=statistics.pstdev(values),
        low=min(values),
        median=statistics.median(values),
        high=max(values),
    )


def _steps(folder: RunFolder, stage: str | None, step: int | None) -> dict[str, list[int]]:
    """Steps with stored rollouts by stage, those that were asked for."""
    names = [stage] if stage else list(dict.fromkeys(record.stage for record in folder.metrics.records()))
    stored = {name: folder.rollout_steps(name) for name in names}
    chosen = {name: [n for n in numbers if step in (None, n)] for name, numbers in stored.items()}
    chosen = {name: numbers for name, numbers in chosen.items() if numbers}
    if not chosen:
        have = ", ".join(f"{name} {numbers[0]} to {numbers[-1]}" for name, numbers in stored.items() if numbers)
        raise RunError(f"{folder.path} keeps no such rollouts; it has: {have or 'none'}")
    return chosen


def _rewards(recipe: Recipe, stage: str) -> Router.Config:
    """The scorers of the recipe's stage of that name, else of the recipe."""
    same = next((each for each in recipe.stage_list if each.name == stage), recipe.stage_list[-1])
    rewards = rewards_of(recipe, same)
    if rewards is None:
        raise ConfigError(f"recipe '{recipe.name}' names no scorer; add rewards.scorers")
    return rewards


def _new_folder(folder: RunFolder, recipe: Recipe) -> Path:
    """A folder of its own, with the recipe that it was judged by."""
    number = 1
    while True:
        path = folder.path / FOLDER / f"{recipe.name}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            write_text(path / "recipe.yaml", recipe.yaml())
            return path


def _groups(rollouts: Iterable[Rollout]) -> list[Group]:
    def request(first: Rollout) -> GroupRequest:
        return GroupRequest(task=first.task, group=first.key.group, size=1, sampling=first.sampling, seed=first.seed)

    by_group = groupby(rollouts, key=lambda rollout: rollout.key.group)
    members = [tuple(group) for _, group in by_group]
    return [Group(request=request(group[0]), rollouts=group) for group in members]
