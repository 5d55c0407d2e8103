"""Which stages of a recipe to run."""

from __future__ import annotations

from rlforge.errors import ConfigError
from rlforge.loops.stage import StageConfig
from rlforge.recipe import Recipe
from rlforge.registry import suggest


def chosen_stages(recipe: Recipe, only: str | None) -> list[StageConfig]:
    """All stages, or the one named. Raises ConfigError with a suggestion when there is none of that name."""
    names = [stage.name for stage in recipe.stage_list]
    if only is not None and only not in names:
        raise ConfigError(f"the recipe has no stage '{only}'. {suggest(only, names)}Known: {', '.join(names)}")
    return [stage for stage in recipe.stage_list if only in (None, stage.name)]
