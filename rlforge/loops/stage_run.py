"""What surrounds the steps of any stage: resuming, evaluation, publishing, metrics, checkpoints, the early end.

A loop says what happens in a step; everything that happens between steps is here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from collections.abc import Generator as SyncGenerator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from rlforge.data.ledger import Ledger
from rlforge.deadlines import deadline
from rlforge.interfaces import Generator, Learner, RewardRouter
from rlforge.learner.schedule import anneal_start, phase
from rlforge.loops.collect import Collector
from rlforge.loops.evaluate import Evaluation, Evaluator
from rlforge.loops.stage import StageConfig
from rlforge.loops.stopwatch import Stopwatch
from rlforge.runlog.checkpoints import Checkpoint
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.progress import Progress, StageResult
from rlforge.tokens.renderer import ChatRenderer
from rlforge.types import Group, Metrics

_LEDGER = "ledger.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageParts:
    """Everything a stage works with: parts made by the cluster, and the run's own record."""

    learner: Learner
    policy: Generator | None = None
    """Serves the policy to rollout workers; None in a stage that samples nothing."""
    collector: Collector | None = None
    router: RewardRouter | None = None
    evaluators: Sequence[Evaluator]
    renderer: ChatRenderer
    folder: RunFolder
    progress: Progress
    seed: int
    """Seed of this stage, derived from the run's."""
    max_unscored: float = 1.0
    """Share of a step's rollouts that may stay unscored; the evaluators know theirs."""
    context: int | None = None
    """Positions that the model has, in tokens; None where its folder does not say."""
    wanted: frozenset[int] = frozenset()
    """Steps that a later stage starts from: each has a checkpoint, and keeps it."""
    first_version: int = 0
    """Policy version of the weights the stage starts from: one more than the last of the stage before."""
    interrupted: Callable[[], bool] = field(default=lambda: False)
    """True once the user asked to stop: the step is finished and checkpointed, then the stage ends."""


class StageRun:
    """One stage on its way: `steps()` yields what to do next, and does the rest between two yields."""

    def __init__(self, config: StageConfig, parts: StageParts, resume: Checkpoint | None) -> None:
        self.config = config
        self.parts = parts
        self._watch = Stopwatch()
        self._done = resume.step if resume else 0
        self._resume = resume
        self._served: int | None = None
        self._before: Metrics = dict(resume.state["before"]) if resume else {}
        self._latest: Metrics = dict(resume.metrics) if resume else {}
        self._measured: dict[str, int] = {}
        """Step of each evaluation's newest metrics."""
        self._generated: Metrics = {}
        self._judged: Metrics = {}
        self._best: float | None = resume.state["best"] if resume else None
        self.ledger = _ledger_of(resume) if resume else Ledger()
        """Which tasks of the stream the weights have learned from in an `rl` stage; saved with them.

        Empty in other stages: nothing is ever in flight there, so the step says what was drawn.
        """
        self._stopped_by = str(resume.state["stopped_by"]) if resume else ""

    @property
    def version(self) -> int:
        """Version of the weights the learner holds: goes up by one a step, and never comes twice in a run."""
        return self.parts.first_version + self._done

    async def steps(self) -> AsyncIterator[int]:
        """Yield each step still to do, from 1; stop early on the recipe's rule or the user's wish."""
        self.parts.progress.stage(self.config.name, self.config.type, self.config.steps)
        await self.generator_metrics()  # generators outlive a stage: what they did before is not of its first step
        if self._resume is None:
            await self._evaluate(first=True)
            self._before = dict(self._latest)
        while not self._ended():
            self._watch.restart()
            yield self._done + 1
            if self._evaluation_due():
                await self._evaluate()
            if self._checkpoint_due():
                await self._checkpoint()
        if self.complete:
            await self._finish()

    async def _finish(self) -> None:
        if self._done == 0:  # good enough before the first step: the weights it starts from are its result
            await self._checkpoint()
        self.parts.folder.checkpoints.mark(self.config.name, "final", self._done)

    @contextmanager
    def lap(self, name: str) -> SyncGenerator[None]:
        """Time a part of the step as `time/<name>_s`, and let the run folder say that this is what goes on."""
        self._begin(name, self._done + 1)
        with self._watch.lap(name):
            yield

    def _begin(self, name: str, step: int) -> None:
        self.parts.folder.activity.begin(self.config.name, step, name)

    @asynccontextmanager
    async def keeping(self, step: int, groups: Sequence[Group]) -> AsyncGenerator[None]:
        """Write the step's rollouts while the body goes on; they are written also when it fails."""
        writing = asyncio.create_task(
            asyncio.to_thread(self.parts.folder.write_rollouts, self.config.name, step, groups)
        )
        try:
            yield
        except BaseException:
            await asyncio.gather(writing, return_exceptions=True)
            raise
        await writing

    async def publish(self) -> None:
        """Hand the learner's weights to the generators, unless they serve them already."""
        if self._served == self.version or self.parts.policy is None:
            return
        with self.lap("publish"):
            manifest = await self.parts.learner.publish(self.version)
        with self.lap("load"):
            await self.parts.policy.load(manifest)
        self._served = self.version

    async def generator_metrics(self) -> Metrics:
        """What the generators did since the last call: tokens a second while busy, and seconds without work."""
        if self.parts.policy is None:
            return {}
        now = await self.parts.policy.metrics()
        since = {key: value - self._generated.get(key, 0.0) for key, value in now.items()}
        self._generated = now
        busy_s = since.get("generator/busy_s", 0.0)
        rate = since.get("generator/tokens", 0.0) / busy_s if busy_s > 0 else 0.0
        return {"generator/tokens_per_s": rate, "generator/wait_s": since.get("generator/wait_s", 0.0)}

    async def scorer_metrics(self) -> Metrics:
        """What scorers counted since the last call; an endpoint that was down is told in the events."""
        if self.parts.router is None:
            return {}
        now = await self.parts.router.metrics()
        since = {key: value - self._judged.get(key, 0.0) for key, value in now.items()}
        self._judged = now
        for scorer in (
            key.removesuffix("/outages") for key, count in since.items() if key.endswith("/outages") and count
        ):
            said = f"the endpoint of {scorer} was down for {since[f'{scorer}/outage_s']:.1f} s; its rollouts waited"
            self.parts.folder.events.append("endpoint_down", said, stage=self.config.name, step=self._done + 1)
        return since

    def record(self, metrics: Metrics) -> None:
        """Count a step as done and write what it measured."""
        self._done += 1
        line = {**metrics, **self._watch.metrics()}
        self.parts.folder.metrics.append(self.config.name, self._done, line)
        self.parts.progress.step(self.config.name, self._done, line)

    def result(self, seconds: float) -> StageResult:
        """How the stage went."""
        latest = self.parts.folder.latest(self.config.name)
        return StageResult(
            name=self.config.name,
            type=self.config.type,
            steps=self._done,
            before=self._before,
            after=self._latest,
            seconds=seconds,
            checkpoint=str(latest.path) if latest else "",
            stopped_by=self._stopped_by,
        )

    @property
    def complete(self) -> bool:
        """Whether the stage came to its own end, rather than to the user's."""
        return bool(self._stopped_by) or self._done >= self.config.steps

    def _ended(self) -> bool:
        return self.complete or self.parts.interrupted()

    def _evaluation_due(self) -> bool:
        last = self._done >= self.config.steps
        return last or any(self._done % e.config.every == 0 for e in self.parts.evaluators)

    def _checkpoint_due(self) -> bool:
        due = self._ended() or self._done % self.config.checkpoint_every == 0 or self._done in self.parts.wanted
        return due or self._before_anneal() or self._best_yet()

    def _before_anneal(self) -> bool:
        """Whether the next step is the first annealed one: a later recipe may want to go on from here instead."""
        return 0 < self._done < self.config.steps and self._done == anneal_start(
            self.config.learner.schedule, self.config.steps
        )

    async def _evaluate(self, *, first: bool = False) -> None:
        last = self._done >= self.config.steps
        due = [e for e in self.parts.evaluators if first or last or self._done % e.config.every == 0]
        if not due:
            return
        await self.publish()
        await self._measure(due)
        self._apply_stop_rule(due)
        if self._stopped_by:  # the last step after all: everything is measured after it
            await self._measure([e for e in self.parts.evaluators if e not in due])

    async def _measure(self, evaluators: Sequence[Evaluator]) -> None:
        self._begin("evaluate", self._done)
        for evaluator in evaluators:
            self._note(await evaluator.evaluate(self.version))

    def _note(self, evaluation: Evaluation) -> None:
        folder, stage = self.parts.folder, self.config.name
        folder.metrics.append(stage, self._done, evaluation.metrics, evaluation=evaluation.name)
        folder.write_evaluation(stage, self._done, evaluation.name, evaluation.results)
        self.parts.progress.evaluation(stage, self._done, evaluation.name, evaluation.metrics)
        others = {key: value for key, value in self._latest.items() if not key.startswith(f"eval/{evaluation.name}/")}
        self._latest = others | evaluation.metrics  # nothing stays of what it could not measure this time
        self._measured[evaluation.name] = self._done

    def _apply_stop_rule(self, due: Sequence[Evaluator]) -> None:
        rule = self.config.stop_when
        measured = any(rule and rule.metric.startswith(f"eval/{e.config.name}/") for e in due)
        if rule and measured and self._latest.get(rule.metric, float("-inf")) >= rule.at_least:
            self._stopped_by = f"{rule.metric} >= {rule.at_least:g}"

    async def _checkpoint(self) -> None:
        folder, stage = self.parts.folder, self.config.name
        self._begin("checkpoint", self._done)
        best = self._best_yet()
        self._best = self._score() if best else self._best
        state = {"before": self._before, "best": self._best, "stopped_by": self._stopped_by}
        saving = folder.checkpoint(
            stage, self._done, policy_version=self.version, metrics=self._latest, state=state, phase=self._phase()
        )
        with saving as path:
            async with deadline(600.0, f"the learner to save {path}"):
                await self.parts.learner.save(str(path))
            (path / _LEDGER).write_text(json.dumps(self.ledger.to_json()), encoding="utf-8")
        if best:
            folder.checkpoints.mark(stage, "best", self._done)
        if self._before_anneal():
            folder.checkpoints.mark(stage, "before_anneal", self._done)
        folder.checkpoints.prune(stage, self.config.keep_last, self.parts.wanted)

    def _best_yet(self) -> bool:
        score = self._score()
        return score is not None and (self._best is None or score > self._best)

    def _score(self) -> float | None:
        """What `best` goes by: the accuracy of the first evaluation, if it is of these very weights."""
        name = next((e.config.name for e in self.parts.evaluators), None)
        return self._latest.get(f"eval/{name}/accuracy") if self._measured.get(name or "") == self._done else None

    def _phase(self) -> str:
        if self._stopped_by or self._done >= self.config.steps:
            return "done"
        return phase(self.config.learner.schedule, self._done, self.config.steps)


def _ledger_of(checkpoint: Checkpoint) -> Ledger:
    return Ledger.from_json(json.loads((checkpoint.path / _LEDGER).read_text(encoding="utf-8")))
