"""Evaluating without training: a model served, a recipe's evaluations run on it, nothing written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from rlforge.cluster.placement import Cluster
from rlforge.cluster.specs import RouterSpec
from rlforge.errors import ConfigError
from rlforge.loops.evaluate import Evaluation, Evaluator
from rlforge.loops.stage import StageConfig
from rlforge.processes import sweep_shared_memory
from rlforge.recipe import Recipe
from rlforge.registry import CLUSTERS
from rlforge.run.model import checked_model_folder
from rlforge.run.parts import collector_of, generator_specs, rewards_of, skipped_rows, sources_of
from rlforge.run.stages import chosen_stages
from rlforge.seeds import derive_seed


async def evaluate(
    recipe: Recipe, *, model: str | None, stage: str | None, tell: Callable[[str], object] | None = None
) -> dict[str, Evaluation]:
    """What was found, by evaluation name, in every stage's evaluations or one stage's; a name is measured once.

    `model` is a model folder; None takes the recipe's `model.path`. `tell` hears of bad rows that were left out. Raises
    ConfigError when there is no model to measure or no evaluation to do.
    """
    folder = model or recipe.model.path
    if folder is None:
        raise ConfigError("there is no model to evaluate: the recipe makes one from scratch; give --model FOLDER")
    stages = [each for each in chosen_stages(recipe, stage) if each.evaluations]
    if not stages:
        raise ConfigError("there is nothing to evaluate: no stage of the recipe has evaluations")
    run_id = f"eval-{os.getpid()}"
    cluster: Cluster = CLUSTERS.load(recipe.cluster.type)(recipe.cluster, run_id=run_id)
    try:
        await cluster.start()
        async with cluster.watched():
            measured = _measured(recipe, stages, checked_model_folder(folder), cluster, run_id, tell or _silent)
            return await measured
    finally:
        await cluster.close()
        sweep_shared_memory(run_id)


async def _measured(
    recipe: Recipe,
    stages: Sequence[StageConfig],
    model: str,
    cluster: Cluster,
    run_id: str,
    tell: Callable[[str], object],
) -> dict[str, Evaluation]:
    generators = await cluster.generators(generator_specs(recipe, model, run_id))
    measured: dict[str, Evaluation] = {}
    for stage in stages:
        rewards = rewards_of(recipe, stage)
        if rewards is None:
            raise ConfigError(f"stage '{stage.name}' cannot be evaluated: the recipe names no scorer; add rewards")
        router = await cluster.router(RouterSpec(config=rewards, model=model), generators)
        collector = await collector_of(cluster, recipe, stage, generators, router, model)
        for config in (each for each in stage.evaluations if each.name not in measured):
            seed = derive_seed(recipe.seed, stage.name)
            sources = await asyncio.to_thread(sources_of, recipe, config.data)
            for said, _ in skipped_rows(sources):
                tell(f"evaluation '{config.name}': {said}")
            evaluator = Evaluator(config, sources, collector, seed, rewards.max_unscored, stage.play)
            measured[config.name] = await evaluator.evaluate(0)
        await cluster.release(collector, router)
    return measured


def _silent(said: str) -> None:
    """Nobody wants to hear it."""
