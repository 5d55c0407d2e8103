"""From the recipe's words to the parts a stage or an evaluation works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from rlforge.cluster.placement import Cluster
from rlforge.cluster.specs import GeneratorSpec, WorkerSpec
from rlforge.config import PartConfig, build
from rlforge.data.config import SourceConfig
from rlforge.data.mixture import Mixture
from rlforge.generators.config import GeneratorConfig
from rlforge.interfaces import Generator, RewardRouter, Source
from rlforge.loops.collect import Collector
from rlforge.loops.rl import RLConfig
from rlforge.loops.stage import StageConfig
from rlforge.recipe import Recipe
from rlforge.registry import SOURCES
from rlforge.rewards.router import Router
from rlforge.seeds import derive_seed


def sources_of(recipe: Recipe, configs: Sequence[PartConfig]) -> list[Source]:
    """Sources in order; a loaded recipe has absolute paths, so that none depends on where we are."""
    offered = {"environments": recipe.environments}
    return [build(SOURCES, config, offered=offered, base=Path.cwd()) for config in configs]


def skipped_rows(sources: Sequence[Source]) -> Iterator[tuple[str, list[str]]]:
    """For each source that left bad rows out on the recipe's word: a sentence, and every row with what is wrong."""
    for source in sources:
        skipped: list[str] = list(getattr(source, "skipped", ()))
        if skipped:
            yield f"source '{source.name}' left out {len(skipped)} bad rows, the first: {skipped[0]}", skipped


def mixture_of(config: StageConfig, sources: Sequence[Source], seed: int) -> Mixture:
    """The weighted, shuffled stream that a stage draws from its sources."""
    weights = [source.weight for source in cast(list[SourceConfig], config.data)]
    return Mixture(sources, weights, derive_seed(seed, config.name, "data"))


def every_source(recipe: Recipe) -> list[Source]:
    """All that the stages learn from or are measured on."""
    stages = recipe.stage_list
    evaluated = [data for stage in stages for evaluation in stage.evaluations for data in evaluation.data]
    return sources_of(recipe, [*(data for stage in stages for data in stage.data), *evaluated])


def generator_specs(recipe: Recipe, model: str, run_id: str) -> dict[str, list[GeneratorSpec]]:
    """The recipe's generators by name, a spec for each replica."""
    seed = derive_seed(recipe.seed, "generators")
    return {
        name: [GeneratorSpec(config=config, model=model, seed=seed, run_id=run_id) for _ in range(config.replicas)]
        for name, config in cast(Mapping[str, GeneratorConfig], recipe.generators).items()
    }


def rewards_of(recipe: Recipe, stage: StageConfig) -> Router.Config | None:
    """The stage's own scorers, else the recipe's."""
    own = stage.rewards if isinstance(stage, RLConfig) else None
    return own or recipe.rewards


async def collector_of(
    cluster: Cluster,
    recipe: Recipe,
    stage: StageConfig,
    generators: Mapping[str, Generator],
    router: RewardRouter,
    model: str,
) -> Collector:
    """The workers that play and score the stage's rollouts, of training and of its evaluations."""
    spec = WorkerSpec(orchestrator=stage.orchestrator, model=model, environments=recipe.environments)
    return await cluster.collector(spec, generators, router)
