"""The environments of a run: which one a task is played in, and how a world is opened there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from pydantic import Field

from rlforge.deadlines import deadline
from rlforge.errors import (
    ConfigError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointError,
    EndpointUnavailable,
    ExtensionError,
    boundary,
)
from rlforge.interfaces import Environment, World
from rlforge.registry import suggest
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Observation, Task, ToolSpec, WorldStart

STEP_TIMEOUT_S = 60.0
"""Seconds a step may take where neither the recipe nor the environment says."""
_REMEMBERED = 256
"""Sources whose environment is looked up once."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0


class EnvironmentConfig(EndpointConfig):
    """An environment of the recipe: where it is, and whose tasks are played in it."""

    sources: list[str] = Field(default_factory=lambda: list[str]())
    """Names of the data sources whose tasks are played here; empty: the source of the environment's own name, and in a
    recipe with one environment all."""


class Opened(NamedTuple):
    """A world, what it first shows, and what is known of it."""

    world: World
    first: Observation
    tools: tuple[ToolSpec, ...]


def environment_of(source: str, environments: Mapping[str, EnvironmentConfig]) -> str:
    """Name of the environment that plays the tasks of a source. Raises ConfigError when none or several would."""
    named = [name for name, config in environments.items() if source in config.sources]
    if not named and source in environments:
        return source
    candidates = named or [name for name, config in environments.items() if not config.sources]
    if len(candidates) == 1 and (named or len(environments) == 1):
        return candidates[0]
    known = ", ".join(environments) or "none"
    if named:
        raise ConfigError(f"tasks of source '{source}' are claimed by environments {', '.join(named)}; leave one")
    raise ConfigError(
        f"no environment plays the tasks of source '{source}'. {suggest(source, environments)}Environments: {known}; "
        "name the source in the `sources` of one"
    )


class Environments:
    """Connections of one rollout worker, shared by all its rollouts."""

    def __init__(self, configs: Mapping[str, EnvironmentConfig]) -> None:
        self._configs = configs
        self._connected: dict[str, Environment] = {}
        self._name_of: Callable[[str], str] = lru_cache(_REMEMBERED)(partial(environment_of, environments=configs))

    async def start(self) -> None:
        """Make ready to connect; an endpoint that is down is waited for when a world is wanted."""
        for name, config in self._configs.items():
            if name not in self._connected:
                self._connected[name] = connect_environment(config)

    async def open(self, start: WorldStart, *, within_s: float, step_timeout_s: float | None) -> Opened:
        """A world for a task. Asks again while the endpoint is down or has no room, and then raises its last word.

        Raises EndpointError, DeadlineExceeded, or ConfigError when no environment plays the task.
        """
        ends = asyncio.get_running_loop().time() + within_s
        pause = _FIRST_PAUSE_S
        last: EndpointError | None = None
        while True:
            patience = deadline(ends - asyncio.get_running_loop().time(), f"a world for rollout '{start.rollout_id}'")
            try:
                async with patience:
                    return await self._open(self._environment(start.task), start, step_timeout_s)
            except DeadlineExceeded as error:
                if last is None or not patience.late:
                    raise
                raise last from error  # it says more than that the time is over
            except (EndpointUnavailable, EndpointBusy) as error:
                last = error
                wait = max(pause, getattr(error, "retry_after_s", 0.0)) * random.uniform(0.5, 1.0)
                if asyncio.get_running_loop().time() + wait >= ends:
                    raise
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Free every world and every connection. May be called twice."""
        connected, self._connected = self._connected, {}
        await asyncio.gather(*(environment.close() for environment in connected.values()))

    def _environment(self, task: Task) -> Environment:
        name = self._name_of(task.source)
        if name not in self._connected:
            raise EndpointUnavailable(f"environment '{name}' is not connected: start() was not called, or close() was")
        return self._connected[name]

    async def _open(self, environment: Environment, start: WorldStart, step_timeout_s: float | None) -> Opened:
        try:
            with boundary("its environment"):
                spec = await environment.describe()
                seconds = step_timeout_s or spec.step_timeout_s or STEP_TIMEOUT_S
                world, first = await environment.open(replace(start, step_timeout_s=seconds))
        except ExtensionError as error:
            raise EndpointBroken(f"the world of rollout '{start.rollout_id}': {error}") from error
        return Opened(world, first, first.tools or spec.tools)
