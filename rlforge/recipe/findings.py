"""What the doctor looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from rlforge.config import PartConfig, build
from rlforge.errors import DeadlineExceeded, EndpointError, RlforgeError
from rlforge.interfaces import Source
from rlforge.loops.rl import RLConfig
from rlforge.loops.stage import StageConfig
from rlforge.model_folder import positions
from rlforge.recipe.document import Recipe
from rlforge.registry import SOURCES
from rlforge.rewards.config import ScorerConfig
from rlforge.rewards.router import Router


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing the doctor found."""

    severity: Literal["error", "warning"]
    """An error stops `rlforge train`; a warning is only told."""
    key: str
    """Which setting, as an override would write it."""
    message: str
    """What is wrong with it and why."""
    hint: str = ""
    """The way out."""

    def __str__(self) -> str:
        hint = f"; hint: {self.hint}" if self.hint else ""
        return f"{self.key}: {self.message}{hint}" if self.key else f"{self.message}{hint}"


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedSource:
    """A source in the place where it is used."""

    key: str
    """`stages.grpo.data.0`."""
    stage: StageConfig
    config: PartConfig
    evaluation: bool
    source: Source | None = None
    """None when it cannot be built."""
    error: str = ""
    """Why it cannot."""
    severity: Literal["error", "warning"] = "error"
    """How bad that is."""


class Case:
    """A recipe under examination, with what takes time to find out kept."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.absent: dict[str, str] = {}
        """Environments known not to answer, and what came of asking them: none is waited for twice."""

    @property
    def rl_stages(self) -> list[RLConfig]:
        """The stages that learn from rewards."""
        return [stage for stage in self.recipe.stage_list if isinstance(stage, RLConfig)]

    @cached_property
    def sources(self) -> list[UsedSource]:
        """Every source of every stage and evaluation, built."""
        used: list[UsedSource] = []
        for stage in self.recipe.stage_list:
            key = f"stages.{stage.name}"
            used += [self._used(f"{key}.data.{i}", stage, config, False) for i, config in enumerate(stage.data)]
            for number, evaluation in enumerate(stage.evaluations):
                place = f"{key}.evaluations.{number}.data"
                used += [self._used(f"{place}.{i}", stage, config, True) for i, config in enumerate(evaluation.data)]
        return used

    @cached_property
    def context(self) -> int | None:
        """Longest sequence in tokens that the policy's generator takes; None when it cannot be known yet."""
        return cast(Any, self.recipe.generators["policy"]).context or self.positions

    @cached_property
    def positions(self) -> int | None:
        """Longest sequence in tokens that the model has positions for; None when it cannot be known yet."""
        model = self.recipe.model
        return model.init.context if model.init else positions(str(model.path))

    def rewards(self, stage: StageConfig) -> Router.Config | None:
        """Scorers of a stage: its own or the recipe's."""
        own = stage.rewards if isinstance(stage, RLConfig) else None
        return own or self.recipe.rewards

    def scorers(self) -> list[tuple[str, ScorerConfig]]:
        """Every scorer with its key."""
        routers: list[tuple[str, Router.Config | None]] = [("rewards", self.recipe.rewards)]
        routers += [(f"stages.{stage.name}.rewards", stage.rewards) for stage in self.rl_stages]
        return [
            (f"{key}.scorers.{index}", part)
            for key, router in routers
            for index, part in enumerate(router.parts if router else _NONE)
        ]

    def _used(self, key: str, stage: StageConfig, config: PartConfig, evaluation: bool) -> UsedSource:
        used = UsedSource(key=key, stage=stage, config=config, evaluation=evaluation)
        asked = str(getattr(config, "environment", ""))
        if asked in self.absent:
            return replace(used, error=self.absent[asked], severity="warning")
        offered = {"environments": self.recipe.environments}
        try:
            return replace(used, source=build(SOURCES, config, offered=offered, base=Path.cwd()))
        except (EndpointError, DeadlineExceeded) as absent:  # it may be up when the run starts
            if asked:
                self.absent[asked] = str(absent)
            return replace(used, error=str(absent), severity="warning")
        except RlforgeError as problem:
            return replace(used, error=str(problem))


Rule: TypeAlias = Callable[[Case], Iterator[Finding]]
"""Looks at one thing in a recipe."""

_NONE: Sequence[ScorerConfig] = ()
