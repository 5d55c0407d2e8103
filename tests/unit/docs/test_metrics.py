"""docs/reference/metrics.md lists exactly the keys that the code gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlforge.algorithms.advantages import grpo
from rlforge.algorithms.group_credit import credit_groups
from rlforge.algorithms.objectives import OBJECTIVES, TokenInputs
from rlforge.generators.counters import Counters
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.loops.evaluate import EvaluationConfig, Evaluator
from rlforge.loops.measure import rollout_metrics
from rlforge.loops.rl import RLConfig, policy_batch
from rlforge.loops.sft import left_out_metrics
from rlforge.loops.stage_run import StageParts, StageRun
from rlforge.rewards.judge.scorer import JudgeScorer
from rlforge.types import (
    Batch,
    Group,
    GroupRequest,
    Message,
    Objective,
    Reward,
    Rollout,
    Sampling,
    Score,
    StopReason,
    Task,
    Trajectory,
)
from tests.rollouts import rollout

ROOT = Path(__file__).resolve().parents[3]
REASONS = "|".join(StopReason)
TASK = Task(id="t", messages=(Message.of("user", "1+1="),))
REWARD = Reward(value=1.0, scores=(Score(scorer="exact", value=1.0),))


def documented(section: str = "") -> set[str]:
    """Keys that have a row, in the whole page or below one heading of it."""
    page = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    told = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0] if section else page
    return set(re.findall(r"^\| `([^`]+)` \|", told, re.MULTILINE))


def rollouts(task: Task = TASK) -> tuple[Rollout, ...]:
    return tuple(
        replace(rollout(member=member, stop_reason=reason), task=task, reward=REWARD)
        for member, reason in enumerate(StopReason)
    )


def step_keys() -> set[str]:
    request = GroupRequest(task=TASK, group="g", size=1, sampling=Sampling(), seed=0)
    groups = [Group(request=request, rollouts=rollouts())]
    keys = {*rollout_metrics(groups), *policy_batch(groups).metrics}
    return {re.sub(f"stop/({REASONS})_share", "stop/<reason>_share", key).replace("exact", "<scorer>") for key in keys}


def scorer_keys() -> set[str]:
    request = GroupRequest(task=TASK, group="g", size=1, sampling=Sampling(), seed=0)
    late = Reward(value=None, scores=(Score(scorer="exact", error_kind="timeout"),))
    keys = rollout_metrics([Group(request=request, rollouts=(replace(rollout(), reward=late),))])
    unscored = {key.replace("exact/timeout", "<scorer>/<kind>") for key in keys if key.startswith("unscored_")}
    told = {"type": "judge", "rubric": "?", "address": "http://localhost", "model": "m"}
    judge = JudgeScorer(JudgeScorer.Config.parse(told))
    return unscored | {key.replace("scorer_judge/", "scorer_<scorer>/") for key in judge.metrics()}


def credit_keys() -> set[str]:
    ids = np.array([1, 2])
    trajectory = Trajectory(token_ids=ids, sampled=ids > 1, rollout="r", group="g", reward=1.0)
    batch = Batch(trajectories=(trajectory, replace(trajectory, rollout="s", reward=0.0)), objectives={})
    return set(credit_groups(batch, Objective(loss="ppo_clip"), grpo).metrics)


def objective_keys() -> set[str]:
    zeros = torch.zeros(2)
    inputs = TokenInputs(
        logprobs=zeros, sequence=torch.zeros(2, dtype=torch.long), behaviour_logprobs=zeros, advantages=zeros
    )
    stats = {key for function in OBJECTIVES.values() for key in function(inputs).stats}
    return {f"policy/{key}" for key in stats | set(OBJECTIVES["ppo_clip"](inputs, dual_clip=3.0).stats)}


async def evaluation_keys() -> set[str]:
    class Played:
        async def collect(self, requests: Sequence[GroupRequest]) -> list[Group]:
            return [Group(request=request, rollouts=rollouts(request.task)[: request.size]) for request in requests]

    class Source:
        name = "one"

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Task:
            return TASK

    config = EvaluationConfig.parse({"data": [{"type": "text", "path": "-"}], "samples": 1, "pass_at": [1]})
    played: Any = Played()
    keys = (await Evaluator(config, [Source()], played, 0).evaluate(0)).metrics
    return {key.replace("/held_out/", "/<name>/").replace("pass_at_1", "pass_at_<k>") for key in keys}


async def generator_keys() -> set[str]:
    """Of the generators' counters, what a step writes."""
    generator = ScriptedGenerator(ScriptedGenerator.Config(), model="", seed=0, run_id="test-metrics")
    nothing: Any = None
    parts = StageParts(
        policy=generator, learner=nothing, evaluators=[], renderer=nothing, folder=nothing, progress=nothing, seed=0
    )
    config = RLConfig.parse({"type": "rl", "name": "grpo", "data": [{"type": "text", "path": "-"}], "steps": 1})
    return set(await StageRun(config, parts, None).generator_metrics())


def written_in(*files: str, pattern: str) -> set[str]:
    """Keys that stand in the source as they are."""
    return {key for file in files for key in re.findall(pattern, (ROOT / "rlforge" / file).read_text("utf-8"))}


async def produced() -> set[str]:
    laps = written_in("loops/rl.py", "loops/sft.py", "loops/stage_run.py", pattern=r'\blap\("(\w+)"\)')
    literal = written_in("learner/learner.py", "learner/loss.py", pattern=r'"((?:learner|policy|mismatch)/\w+)"')
    return {
        *step_keys(),
        *scorer_keys(),
        *credit_keys(),
        *objective_keys(),
        *literal,
        *(f"time/{lap}_s" for lap in laps),
        "time/step_s",
        *left_out_metrics(("bad row",)),
        *await evaluation_keys(),
        *await generator_keys(),
        *Counters().read(),
    }


async def test_every_documented_metric_is_produced_and_every_produced_metric_is_documented() -> None:
    found, told = await produced(), documented()
    assert told - found == set(), "documented, but nothing gives it"
    assert found - told == set(), "given, but not documented"


async def test_what_a_step_writes_of_the_generators_is_told_apart_from_their_counters() -> None:
    assert documented("Generators (`rl`)") == await generator_keys()
    assert documented("Counters of a generator") == set(Counters().read())


def test_every_stop_reason_is_told() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    assert all(f"`{reason}`" in page for reason in StopReason)
