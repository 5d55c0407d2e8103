"""From a file and overrides to a recipe, remembering where each value came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rlforge.errors import ConfigError
from rlforge.recipe.document import Recipe
from rlforge.recipe.overrides import Override, apply_overrides, parse_override
from rlforge.recipe.paths import absolute_paths, refuse_secrets
from rlforge.recipe.strict_yaml import KeyPath, YamlDocument, read_yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A recipe as written: plain data with the overrides applied, not yet validated."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=lambda: dict[KeyPath, int]())
    overrides: dict[KeyPath, Override] = field(default_factory=lambda: dict[KeyPath, Override]())

    def origin(self, path: KeyPath) -> str:
        """`override`, `recipe.yaml:12` or `default`."""
        for depth in range(len(path), 0, -1):
            place = path[:depth]
            if place in self.overrides and (depth == len(path) or path[-1] == "type" or not self._leaf(place)):
                return "override"
            if place in self.lines:
                named = depth == len(path) - 1 and path[-1] == "type" and self._leaf(place)
                return f"{self.path.name}:{self.lines[place]}" if depth == len(path) or named else "default"
        return "default"

    def recipe(self) -> Recipe:
        """The validated recipe. Raises ConfigError whose every line ends with file and line where they are known."""
        try:
            return Recipe.parse(self.data)
        except ConfigError as error:
            raise ConfigError("\n".join(self._located(line) for line in str(error).splitlines())) from error

    def _leaf(self, place: KeyPath) -> bool:
        """Whether a scalar stands at `place`: the `type` of a part named in one word came with it, the rest did not."""
        value: Any = self.data
        for step in place:
            value = value[step]
        return not isinstance(value, dict | list)

    def _located(self, line: str) -> str:
        place = _place_in(line)
        while place and place not in self.lines and place not in self.overrides:
            place = place[:-1]
        if not place:
            return f"{self.path.name}: {line}"
        where = "override" if place in self.overrides else f"{self.path.name}:{self.lines[place]}"
        return f"{where}: {self._with_names(line)}"

    def _with_names(self, line: str) -> str:
        """`stages.1: …` reads better as `stages.grpo: …`."""

        def name(match: re.Match[str]) -> str:
            stage = cast(list[Any], self.data["stages"])[int(match.group(1))]
            return f"stages.{stage.get('name', match.group(1))}" if isinstance(stage, dict) else match.group()

        return re.sub(r"^stages\.(\d+)", name, line)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe. Raises ConfigError that says what is wrong, where, and the way out."""
    return read_document(path, overrides).recipe()


def read_document(path: Path | str, overrides: Sequence[str] = ()) -> Document:
    """Read and override a recipe without validating it."""
    path = Path(path)
    written = read_yaml(path / "recipe.yaml" if path.is_dir() else path)
    path = path / "recipe.yaml" if path.is_dir() else path
    data = _mapping(written, path)
    parsed = [parse_override(text) for text in overrides]
    placed = apply_overrides(data, parsed)
    refuse_secrets(data)

    def base_of(place: KeyPath) -> Path:
        overridden = any(place[:depth] in placed for depth in range(1, len(place) + 1))
        return Path.cwd() if overridden else path.absolute().parent

    absolute_paths(data, base_of)
    data.setdefault("runs_dir", str(Path.cwd() / "runs"))
    return Document(path=path, data=data, lines=written.lines, overrides=placed)


def _mapping(written: YamlDocument, path: Path) -> dict[str, Any]:
    if not isinstance(written.data, dict):
        raise ConfigError(f"{path} is not a recipe: it holds {type(written.data).__name__}, not keys and values")
    return cast(dict[str, Any], written.data)


def _place_in(line: str) -> KeyPath:
    """Where an error of `BaseConfig.parse` points: `stages.1: algorithm: unknown key 'stdd'. …`."""
    steps: list[str] = []
    rest = line
    while match := re.match(r"([\w.]+): ", rest):
        steps += match.group(1).split(".")
        rest = rest[match.end() :]
    if match := re.match(r"(?:unknown key )?'([\w.]+)'|([\w.]+)=", rest):
        steps += (match.group(1) or match.group(2)).split(".")
    return tuple(int(step) if step.isdecimal() else step for step in steps)
