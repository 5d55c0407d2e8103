"""Every value of a recipe with what it means and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from rlforge.recipe.document import Recipe
from rlforge.recipe.load import Document
from rlforge.recipe.strict_yaml import KeyPath


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One resolved value."""

    key: str
    """As an override would write it: `stages.grpo.learner.lr`."""
    value: Any
    """A JSON value."""
    origin: str
    """`default`, `recipe.yaml:12` or `override`."""
    documentation: str


def settings(document: Document, recipe: Recipe) -> list[Setting]:
    """Every setting of the recipe, in the order of its document."""
    return [
        Setting(key=_key(path, recipe), value=value, origin=document.origin(path), documentation=documentation)
        for path, value, documentation in _walk(recipe, (), "")
    ]


def _walk(value: Any, path: KeyPath, documentation: str) -> Iterator[tuple[KeyPath, Any, str]]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _walk(getattr(value, name), (*path, name), field.description or "")
    elif isinstance(value, Mapping) and _holds_models(cast(Mapping[str, Any], value).values()):
        for key, inner in cast(Mapping[str, Any], value).items():
            yield from _walk(inner, (*path, key), documentation)
    elif isinstance(value, list | tuple) and _holds_models(cast(list[Any], value)):
        for index, inner in enumerate(cast(list[Any], value)):
            yield from _walk(inner, (*path, index), documentation)
    else:
        yield path, list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value, documentation


def _holds_models(values: Any) -> bool:
    return any(isinstance(value, BaseModel) for value in values)


def _key(path: KeyPath, recipe: Recipe) -> str:
    steps = list(path)
    if steps[0] == "stages":
        steps[1] = recipe.stage_list[int(steps[1])].name
    return ".".join(str(step) for step in steps)
