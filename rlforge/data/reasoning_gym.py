"""Procedurally generated tasks of the reasoning-gym library, by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from rlforge.data.config import Item, Kind, SourceConfig
from rlforge.data.selection import select
from rlforge.errors import ConfigError, SetupError
from rlforge.registry import suggest
from rlforge.types import Message, Task


class ReasoningGymSource:
    """Each entry is a task whose `info` carries what the library's own verifier needs (scorer `reasoning_gym`)."""

    class Config(SourceConfig):
        """Settings of `reasoning_gym`."""

        type: str = "reasoning_gym"
        dataset: str
        """Name of the dataset, `chain_sum` for instance."""
        size: int = Field(500, ge=1)
        """Number of entries to generate."""
        seed: int = 42
        """Seed of the entries; another seed gives others."""
        config: dict[str, Any] = Field(default_factory=dict)
        """The dataset's own settings: `{min_terms: 2, max_terms: 3}`."""

    def __init__(self, config: Config, *, base: Path) -> None:
        """Raises ConfigError for an unknown dataset or setting, SetupError when the library is not installed."""
        self._config = config
        self.name = config.name or config.dataset
        self._dataset = _create(config)
        self._check_verifier()
        if config.splits is None:  # nothing to look at: entries are generated when asked for
            self._indices = list(range(min(config.size, config.limit or config.size)))
        else:
            self._indices = select(self._scan(), config, self.name).places
        self.kind: Kind = "tasks"
        self.skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Task:
        return self._task(self._indices[index])

    def _scan(self) -> Iterator[tuple[str, int, Item]]:
        return ((f"{self.name}[{index}]", index, self._task(index)) for index in range(self._config.size))

    def _check_verifier(self) -> None:
        """Refuse a dataset whose verifier gives another score once its entry has been JSON, as in a run folder."""
        raw = self._dataset[0]
        entry = _as_json(raw)
        if self._dataset.score_answer(raw["answer"], raw) != self._dataset.score_answer(entry["answer"], entry):
            raise ConfigError(
                f"reasoning_gym dataset '{self._config.dataset}' cannot be used: its verifier misjudges the reference "
                f"answer of an entry that was stored as JSON; choose another, or give its tasks by a python source"
            )

    def _task(self, index: int) -> Task:
        entry = _as_json(self._dataset[index])
        dataset = {"dataset": self._config.dataset, "config": self._config.config, "entry": entry}
        return Task(
            id=f"{self.name}/{self._config.seed}-{index}",
            messages=(Message.of("user", entry["question"]),),
            answer=entry["answer"],
            info={"reasoning_gym": dataset},
            source=self.name,
        )


def _as_json(entry: Any) -> dict[str, Any]:
    return json.loads(json.dumps(entry, default=str))


def _create(config: ReasoningGymSource.Config) -> Any:
    try:
        with warnings.catch_warnings():
            # one of its dependencies compares with `is`; Python says so each time it compiles that file
            warnings.simplefilter("ignore", SyntaxWarning)
            import reasoning_gym
            from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise SetupError(f"source 'reasoning_gym' needs the reasoning-gym library: {error}") from error
    if config.dataset not in DATASETS:
        near = suggest(config.dataset, DATASETS)
        raise ConfigError(f"unknown reasoning_gym dataset '{config.dataset}'. {near}There are {len(DATASETS)} of them")
    try:
        return reasoning_gym.create_dataset(config.dataset, size=config.size, seed=config.seed, **config.config)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"reasoning_gym dataset '{config.dataset}' with {config.config}: {error}") from error
