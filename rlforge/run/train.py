"""Training: brings the parts up, walks the stages, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from rlforge.cluster.placement import Cluster
from rlforge.cluster.specs import LearnerSpec, RouterSpec
from rlforge.config import PartConfig
from rlforge.interfaces import Generator, RewardRouter, Source
from rlforge.loops.evaluate import EvaluationConfig, Evaluator
from rlforge.loops.rl import RLConfig, run_rl
from rlforge.loops.sft import SFTConfig, run_sft
from rlforge.loops.stage import StageConfig
from rlforge.loops.stage_run import StageParts, StageRun
from rlforge.model_folder import positions
from rlforge.processes import sweep_shared_memory
from rlforge.recipe import Recipe
from rlforge.registry import CLUSTERS
from rlforge.rewards.router import Router
from rlforge.run.interrupt import Interrupt
from rlforge.run.model import checked_model_folder, prepare_model
from rlforge.run.parts import (
    collector_of,
    every_source,
    generator_specs,
    mixture_of,
    rewards_of,
    skipped_rows,
    sources_of,
)
from rlforge.run.stages import chosen_stages
from rlforge.runlog.checkpoints import Checkpoint
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import Progress, RunResult, StageResult
from rlforge.seeds import derive_seed
from rlforge.together import all_or_none
from rlforge.tokens.renderer import ChatRenderer


async def train(recipe: Recipe, *, folder: RunFolder, progress: Progress, only_stage: str | None = None) -> RunResult:
    """Run the recipe's stages (or the one named) in `folder`, going on from whatever checkpoints are there."""
    began = time.monotonic()
    interrupt = Interrupt()
    progress.plan(recipe)
    with interrupt.listening():
        run = Run(recipe, folder, progress, interrupt)
        stages = chosen_stages(recipe, only_stage)
        try:
            results = await run.stages(stages)
        finally:
            await run.close()
    interrupted = interrupt.asked and not all(folder.checkpoints.marked(stage.name, "final") for stage in stages)
    result = RunResult(
        run=str(folder.path), stages=tuple(results), seconds=time.monotonic() - began, interrupted=interrupted
    )
    folder.write_result(result)
    progress.finish(result)
    return result


class Run:
    """A recipe on its way through its stages: owns the cluster and the generators, which outlive a stage."""

    def __init__(self, recipe: Recipe, folder: RunFolder, progress: Progress, interrupt: Interrupt) -> None:
        self._recipe = recipe
        self._folder = folder
        self._progress = progress
        self._interrupt = interrupt
        self._run_id = f"{folder.name[:40]}-{os.getpid()}"
        self._cluster: Cluster = CLUSTERS.load(recipe.cluster.type)(recipe.cluster, run_id=self._run_id)
        self._generators: Mapping[str, Generator] | None = None
        self._first_version = 0

    async def stages(self, stages: Sequence[StageConfig]) -> list[StageResult]:
        """Run stages in order; those that are complete already are only reported."""
        model = await self._prepared_model()
        if all(self._final(stage) for stage in stages):
            return [self._reported(stage) for stage in stages]
        await self._cluster.start()
        results: list[StageResult] = []
        async with self._cluster.watched():
            for stage in stages:
                if self._interrupt():
                    break
                results.append(await self._stage(stage, model))
        return results

    async def close(self) -> None:
        """Take everything down, whatever happened."""
        try:
            await self._cluster.close()
        finally:
            sweep_shared_memory(self._run_id)
            self._folder.close()

    async def _stage(self, config: StageConfig, model: str) -> StageResult:
        began = time.monotonic()
        if done := self._final(config):
            self._first_version = done.policy_version + 1
            return self._reported(config)
        resume = self._folder.latest(config.name)
        self._folder.rewind(config.name, resume.step if resume else -1)
        parts = await self._parts(config, model)
        if resume:
            await parts.learner.restore(str(resume.path))
        run = StageRun(config, parts, resume)
        sources = await self._sources(config.data, f"stage '{config.name}'")
        await _LOOPS[type(config)](config, run, mixture_of(config, sources, self._recipe.seed))
        await self._cluster.release(*(part for part in (parts.collector, parts.router, parts.learner) if part))
        self._first_version = run.version + 1
        return run.result(time.monotonic() - began)

    async def _parts(self, config: StageConfig, model: str) -> StageParts:
        start = self._start_of(config, model)
        learner_spec = LearnerSpec(
            config=config.learner,
            model=start,
            seed=derive_seed(self._recipe.seed, config.name, "learner"),
            run_id=self._run_id,
            total_steps=config.steps,
        )
        seed = derive_seed(self._recipe.seed, config.name)
        max_unscored = _max_unscored(rewards_of(self._recipe, config))
        starting = asyncio.ensure_future(self._started_generators(config, model))
        learning = asyncio.ensure_future(self._cluster.learner(learner_spec))
        judging = asyncio.ensure_future(self._started_router(config, model, starting))
        # what started after the run has closed would outlive it
        generators, learner, router = await all_or_none([starting, learning, judging])
        collector = None
        if router:
            collector = await collector_of(self._cluster, self._recipe, config, generators, router, model)
        return StageParts(
            learner=learner,
            policy=generators.get("policy"),
            collector=collector,
            router=router,
            evaluators=[
                Evaluator(
                    evaluation, await self._held_out(config, evaluation), collector, seed, max_unscored, config.play
                )
                for evaluation in config.evaluations
                if collector is not None
            ],
            context=positions(model),
            renderer=ChatRenderer.from_folder(model, chat=config.type != "pretrain"),
            folder=self._folder,
            progress=self._progress,
            seed=seed,
            max_unscored=max_unscored,
            wanted=self._recipe.steps_wanted(config.name),
            first_version=self._first_version,
            interrupted=self._interrupt,
        )

    async def _started_router(
        self, config: StageConfig, model: str, starting: Awaitable[Mapping[str, Generator]]
    ) -> RewardRouter | None:
        """The stage's router, after the generators that its scorers ask; None in a stage that plays no rollouts."""
        rewards = rewards_of(self._recipe, config)
        if rewards is None or not _plays(config):
            return None
        spec = RouterSpec(config=rewards, model=model)
        return await self._cluster.router(spec, await starting if spec.generators else {})

    async def _started_generators(self, config: StageConfig, model: str) -> Mapping[str, Generator]:
        """The generators, started by the first stage that needs them; empty while none does."""
        if self._generators is None and _plays(config):
            self._generators = await self._cluster.generators(generator_specs(self._recipe, model, self._run_id))
        return self._generators or {}

    async def _held_out(self, config: StageConfig, evaluation: EvaluationConfig) -> list[Source]:
        return await self._sources(evaluation.data, f"stage '{config.name}', evaluation '{evaluation.name}'")

    async def _sources(self, configs: Sequence[PartConfig], place: str) -> list[Source]:
        """Built in a thread: some ask an endpoint and wait for its answer. Rows left out are named in the events."""
        sources = await asyncio.to_thread(sources_of, self._recipe, configs)
        for said, rows in skipped_rows(sources):
            self._folder.events.append("rows_skipped", f"{place}: {said}", rows=rows)
        return sources

    async def _prepared_model(self) -> str:
        sources = await asyncio.to_thread(every_source, self._recipe) if self._recipe.model.init else []
        return prepare_model(self._recipe.model, sources, self._folder.path / "model", self._recipe.seed)

    def _start_of(self, config: StageConfig, model: str) -> str:
        """Folder of the weights a stage starts from."""
        before = self._stage_before(config)
        name = config.start_from or (f"{before.name}/final" if before else None)
        if name is None:
            return model
        if name.partition("/")[0] in {stage.name for stage in self._recipe.stage_list}:
            return str(self._folder.resolve(name).path)
        return checked_model_folder(name)

    def _stage_before(self, config: StageConfig) -> StageConfig | None:
        stages = self._recipe.stage_list
        index = [stage.name for stage in stages].index(config.name)
        return stages[index - 1] if index else None

    def _final(self, config: StageConfig) -> Checkpoint | None:
        return self._folder.checkpoints.marked(config.name, "final")

    def _reported(self, config: StageConfig) -> StageResult:
        """The result of a stage that an earlier process completed."""
        final = self._final(config)
        assert final is not None
        return StageResult(
            name=config.name,
            type=config.type,
            steps=final.step,
            before=dict(final.state["before"]),
            after=final.metrics,
            checkpoint=str(final.path),
            stopped_by=str(final.state["stopped_by"]),
        )


_LOOPS: dict[type, Any] = {RLConfig: run_rl, SFTConfig: run_sft}


def _plays(config: StageConfig) -> bool:
    """Whether a stage plays rollouts, to learn from or to be measured by."""
    return config.type == "rl" or bool(config.evaluations)


def _max_unscored(rewards: Router.Config | None) -> float:
    return rewards.max_unscored if rewards else 1.0
