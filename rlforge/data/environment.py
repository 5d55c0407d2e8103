"""Tasks that an environment lists itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from rlforge.data.config import Kind, SourceConfig
from rlforge.data.selection import select
from rlforge.deadlines import deadline
from rlforge.errors import ConfigError, DataError
from rlforge.registry import suggest
from rlforge.transports.blocking import blocking
from rlforge.transports.config import EndpointConfig
from rlforge.transports.connect import connect_environment
from rlforge.types import Task


class EnvironmentSource:
    """Asks an environment of the recipe for the tasks of one of its splits, once; it must list the same each time."""

    class Config(SourceConfig):
        """Settings of `environment`."""

        type: str = "environment"
        environment: str
        """Name of the environment in the recipe's `environments`; the source's own name where that is empty."""
        tasks: str = "train"
        """Which of the environment's own splits to list; `splits` and `split` divide what it lists further."""
        info: dict[str, Any] = Field(default_factory=lambda: dict[str, Any]())
        """Facts that every task carries beside its own, and instead of those of the same name: what the environment
        reads to make its worlds shorter, easier or otherwise. They stay out of the tasks' ids, and so of the seeds."""
        timeout_s: float = Field(default=60.0, gt=0)
        """Seconds that listing may take."""

    wants: ClassVar[tuple[str, ...]] = ("environments",)

    def __init__(self, config: Config, *, base: Path, environments: Mapping[str, EndpointConfig]) -> None:
        """Raises ConfigError for an unknown environment, DataError without tasks, EndpointError when it does not list.

        Blocks until the tasks are there.
        """
        self._config = config
        self.name = config.name or config.environment
        endpoint = _named(config.environment, environments)
        listed = blocking(self._listed(endpoint))
        rows = [self._row(task) for task in listed]
        selection = select(((f"{self.name}[{n}]", task, task) for n, task in enumerate(rows)), config, self.name)
        self._tasks = selection.places
        self.kind: Kind = selection.kind
        self.skipped = selection.skipped

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        return self._tasks[index]

    def _row(self, task: Task) -> Task:
        return replace(task, id=f"{self.name}/{task.id}", source=self.name, info={**task.info, **self._config.info})

    async def _listed(self, endpoint: EndpointConfig) -> list[Task]:
        config = self._config
        environment = connect_environment(endpoint)
        what = f"environment '{config.environment}' at {endpoint.address} to list its tasks of '{config.tasks}'"
        try:
            async with deadline(config.timeout_s, what):
                splits = (await environment.describe()).splits
                if config.tasks not in splits:
                    known = ", ".join(splits) or "none; give its tasks by another source"
                    raise DataError(
                        f"environment '{config.environment}' lists no split '{config.tasks}'. "
                        f"{suggest(config.tasks, splits)}Known: {known}"
                    )
                limit = 0 if config.splits else config.limit or 0
                listed = [task async for task in environment.tasks(config.tasks, limit=limit)]
                due = min(splits[config.tasks], limit or splits[config.tasks])
                if len(listed) < due:
                    raise DataError(
                        f"environment '{config.environment}' at {endpoint.address} says that '{config.tasks}' has "
                        f"{splits[config.tasks]} tasks, and listed {len(listed)} of {due}; it must list what it says"
                    )
                return listed
        finally:
            await environment.close()


def _named(name: str, environments: Mapping[str, EndpointConfig]) -> EndpointConfig:
    if name not in environments:
        known = ", ".join(environments) or "none; write environments: {NAME: {address: …}} at the recipe's top"
        raise ConfigError(f"unknown environment '{name}'. {suggest(name, environments)}Known: {known}")
    return environments[name]
