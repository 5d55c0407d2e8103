"""`key=value` on the command line: what it addresses, and how it changes the recipe's plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from rlforge.config import PartConfig, config_class
from rlforge.errors import ConfigError
from rlforge.recipe.document import Recipe
from rlforge.recipe.strict_yaml import KeyPath, parse_value
from rlforge.registry import STAGES, suggest


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """One `key=value`."""

    key: str
    value: Any

    @property
    def text(self) -> str:
        """As a person would type it."""
        return f"{self.key}={self.value}"


def parse_override(text: str) -> Override:
    """`learner.lr=1e-4` -> key and YAML value. Raises ConfigError."""
    key, equals, value = text.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"override '{text}' is not of the form key=value, such as learner.lr=1e-4")
    return Override(key=key, value=parse_value(value, f"override '{text}'"))


def plain(overrides: Iterable[Override]) -> dict[str, Any]:
    """What overrides say by themselves, without a recipe: `a.b=1` is `{a: {b: 1}}`. Raises ConfigError."""
    data: dict[str, Any] = {}
    for override in overrides:
        *above, last = override.key.split(".")
        place: Any = data
        for step in above:
            place = _enter(place, step, {}, override)
        place[last] = override.value
    return data


def apply_overrides(data: dict[str, Any], overrides: Sequence[Override]) -> dict[KeyPath, Override]:
    """Change `data` in place; returns which override set which place (the last one wins).

    A key whose head is a field of the recipe addresses the recipe; `stages.<name>.…` one stage; any other key every
    stage that has such a field.
    """
    placed: dict[KeyPath, Override] = {}
    for override in overrides:
        for path in _places(data, override):
            _set(data, path, override)
            placed = {old: by for old, by in placed.items() if old[: len(path)] != path} | {path: override}
    return placed


def _places(data: dict[str, Any], override: Override) -> Iterator[KeyPath]:
    head, *rest = override.key.split(".")
    stages = _stages(data)
    if head == "stages":
        yield ("stages", _stage_index(stages, rest, override), *_steps(rest[1:]))
    elif head in Recipe.model_fields:
        yield (head, *_steps(rest))
    else:
        having = [index for index, stage in enumerate(stages) if head in _stage_class(stage).model_fields]
        if not having:
            known = {*Recipe.model_fields, *(name for stage in stages for name in _stage_class(stage).model_fields)}
            raise ConfigError(
                f"override '{override.text}': neither the recipe nor any of its stages has a '{head}'. "
                f"{suggest(head, known)}Known: {', '.join(sorted(known))}"
            )
        for index in having:
            yield ("stages", index, head, *_steps(rest))


def _stages(data: dict[str, Any]) -> list[dict[str, Any]]:
    stages = data.get("stages")
    items = cast(list[Any], stages) if isinstance(stages, list) else []
    return [cast(dict[str, Any], stage) if isinstance(stage, dict) else {} for stage in items]


def _stage_class(stage: dict[str, Any]) -> type[BaseModel]:
    return config_class(STAGES, str(stage.get("type")))


def _stage_index(stages: list[dict[str, Any]], rest: list[str], override: Override) -> int:
    names = [str(stage.get("name")) for stage in stages]
    if len(rest) < 2:
        raise ConfigError(f"override '{override.text}': write stages.<name>.<key>=value; stages: {', '.join(names)}")
    if rest[0] not in names:
        hint = suggest(rest[0], names)
        raise ConfigError(
            f"override '{override.text}': no stage is called '{rest[0]}'. {hint}Stages: {', '.join(names)}"
        )
    return names.index(rest[0])


def _steps(names: Sequence[str]) -> KeyPath:
    return tuple(int(name) if name.isdecimal() else name for name in names)


def _set(data: dict[str, Any], path: KeyPath, override: Override) -> None:
    """Put the value at `path`; what is missing on the way is made, parts with the type they have by default."""
    place: Any = data
    model: type[BaseModel] = Recipe
    if path[0] == "stages":
        place = _stages(data)[int(path[1])]
        model, path = _stage_class(place), path[2:]
    for depth, step in enumerate(path[:-1]):
        place = _enter(place, step, _default(model, step) if depth == 0 else {}, override)
    _check_step(place, path[-1], override)
    place[path[-1]] = override.value


def _enter(place: Any, step: str | int, default: Any, override: Override) -> Any:
    """The container one step down; a part given by its name alone becomes a mapping."""
    _check_step(place, step, override)
    inside: dict[Any, Any] = place if isinstance(place, dict) else dict(enumerate(place))
    found: Any = inside.get(step)
    if found is None:
        found = default
    if isinstance(found, str):
        found = {"type": found}
    if not isinstance(found, dict | list):
        raise ConfigError(f"override '{override.text}': '{step}' is {found!r}, which has no keys below it")
    cast(Any, place)[step] = found
    return cast(Any, found)


def _check_step(place: Any, step: str | int, override: Override) -> None:
    if isinstance(place, list):
        count = len(cast(list[Any], place))
        if not isinstance(step, int) or step >= count:
            raise ConfigError(f"override '{override.text}': there is no item '{step}'; write a number below {count}")


def _default(model: type[BaseModel], step: str | int) -> Any:
    """What stands in a field that the recipe leaves out, as far as an override below it needs it."""
    field = model.model_fields.get(str(step))
    return _types_only(field.get_default(call_default_factory=True)) if field and not field.is_required() else {}


def _types_only(value: Any) -> Any:
    if isinstance(value, PartConfig):
        return {"type": value.type}
    if isinstance(value, dict):
        return {key: _types_only(item) for key, item in cast(dict[str, Any], value).items()}
    return value if isinstance(value, str) else {}
