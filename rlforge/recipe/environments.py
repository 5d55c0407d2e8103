"""Rules about the environments of a recipe and the rollouts played in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

from rlforge.deadlines import deadline
from rlforge.errors import ConfigError, DeadlineExceeded, EndpointError, RlforgeError
from rlforge.loops.stage import StageConfig
from rlforge.orchestrators.environments import EnvironmentConfig, environment_of
from rlforge.recipe.findings import Case, Finding
from rlforge.registry import ORCHESTRATORS, suggest
from rlforge.transports.blocking import blocking
from rlforge.transports.connect import connect_environment


def every_task_has_an_environment(case: Case) -> Iterator[Finding]:
    """A stage that plays in worlds needs one for the tasks of each of its sources."""
    environments = case.recipe.environments
    for used in case.sources:
        if used.source is not None and _plays_in_worlds(used.stage):
            try:
                environment_of(used.source.name, environments)
            except ConfigError as error:
                yield Finding(severity="error", key=used.key, message=str(error))


def environments_name_sources_that_exist(case: Case) -> Iterator[Finding]:
    """An environment for a source that is not there is never played in."""
    names = {used.source.name for used in case.sources if used.source is not None}
    absent = any(used.source is None for used in case.sources)
    for name, config in case.recipe.environments.items():
        for source in (source for source in config.sources if source not in names and not absent):
            known = ", ".join(sorted(names)) or "none"
            message = f"no source is called '{source}'. {suggest(source, names)}Known: {known}"
            yield Finding(severity="warning", key=f"environments.{name}.sources", message=message)


def worlds_give_what_is_scored(case: Case) -> Iterator[Finding]:
    """The scorer `environment` and credit by turns need a world."""
    for stage in case.recipe.stage_list:
        if _plays_in_worlds(stage) or not (stage in case.rl_stages or stage.evaluations):
            continue
        rewards = case.rewards(stage)
        if rewards is not None and any(part.type == "environment" and not part.shadow for part in rewards.parts):
            yield Finding(
                severity="error",
                key=f"stages.{stage.name}.orchestrator",
                message=f"the scorer 'environment' needs a world, but {stage.orchestrator.type} plays in none: every "
                "rollout would stay unscored",
                hint="orchestrator: environment_loop",
            )


def rollouts_fit_context(case: Case) -> Iterator[Finding]:
    """A rollout of many turns needs room for more than one reply, and ends where the context does."""
    for stage in case.recipe.stage_list:
        longest = cast(int | None, getattr(stage.orchestrator, "max_tokens", None))
        if longest is None or not _plays_in_worlds(stage):
            continue
        key = f"stages.{stage.name}.orchestrator.max_tokens"
        if case.context is not None and longest > case.context:
            message = f"max_tokens={longest} is beyond the context of {case.context} tokens, which ends rollouts before"
            yield Finding(severity="warning", key=key, message=message, hint=f"max_tokens <= {case.context}")
        reply = max(
            [e.play(stage.play).max_new_tokens for e in stage.evaluations]
            + [s.sampling.max_new_tokens for s in case.rl_stages if s is stage],
            default=0,
        )
        if longest <= reply:
            message = f"max_tokens={longest} leaves no room for a prompt beside one reply of {reply} tokens"
            yield Finding(severity="warning", key=key, message=message, hint="a longer max_tokens, or shorter replies")


def credit_by_turns_adds_up(case: Case) -> Iterator[Finding]:
    """Turns are credited with what the world gave, as it gave it."""
    for stage in case.rl_stages:
        rewards = case.rewards(stage)
        if getattr(stage.algorithm, "credit", "outcome") != "turns" or rewards is None:
            continue
        worlds: list[Any] = [part for part in rewards.parts if part.type == "environment"]
        same = any(part.weight == 1 and part.take == "sum" and part.discount == 1 and not part.clip for part in worlds)
        if not same:
            yield Finding(
                severity="warning",
                key=f"stages.{stage.name}.algorithm.credit",
                message="credit: turns adds the world's own rewards up, and the reward counts them otherwise or not at "
                "all; the difference falls on each rollout's last turn",
                hint="rewards: a scorer of type environment with weight 1, take sum, discount 1 and no clip",
            )


def endpoints_answer(case: Case) -> Iterator[Finding]:
    """What the recipe plays in is there now; a warning, since it need not be up before the run.

    First of all rules, so that none of the others waits for an endpoint that is down.
    """
    environments = case.recipe.environments
    if not environments:
        return
    yield from filter(None, blocking(_described(environments, case.absent)))


async def _described(environments: dict[str, EnvironmentConfig], absent: dict[str, str]) -> list[Finding | None]:
    return await asyncio.gather(*(_absence(name, config, absent) for name, config in environments.items()))


async def _absence(name: str, config: EnvironmentConfig, absent: dict[str, str]) -> Finding | None:
    """Why an environment does not answer, noted in `absent` too; None when it does."""
    key = f"environments.{name}"
    try:
        environment = connect_environment(config)
        try:
            async with deadline(config.connect_timeout_s, f"environment '{name}' at {config.address} to answer"):
                await environment.describe()
        finally:
            await environment.close()
    except (EndpointError, DeadlineExceeded) as error:
        absent[name] = str(error)
        return Finding(severity="warning", key=key, message=str(error), hint="it has to answer when the run starts")
    except RlforgeError as error:
        return Finding(severity="error", key=key, message=str(error))
    return None


def _plays_in_worlds(stage: StageConfig) -> bool:
    return "environments" in getattr(ORCHESTRATORS.load(stage.orchestrator.type), "wants", ())


ENVIRONMENT_RULES = (
    every_task_has_an_environment,
    environments_name_sources_that_exist,
    worlds_give_what_is_scored,
    rollouts_fit_context,
    credit_by_turns_adds_up,
)
"""Every rule that needs no endpoint; `endpoints_answer` is for `rlforge recipe check` alone."""
