"""YAML without its surprises: no duplicate keys, no `no` that means false, `1e-4` is a number; lines are remembered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from rlforge.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: `("stages", 0, "learner", "lr")`."""


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2 does."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as the base has it


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))


@dataclass(frozen=True, kw_only=True, slots=True)
class YamlDocument:
    """Plain data and the line on which each key or item begins."""

    data: Any
    lines: dict[KeyPath, int] = field(default_factory=lambda: dict[KeyPath, int]())


def read_yaml(path: Path) -> YamlDocument:
    """Read a file. Raises ConfigError that names file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return parse_yaml(text, str(path))


def parse_value(text: str, where: str) -> Any:
    """The value of an override. Example: `1e-4` is a float, `[a, b]` a list."""
    return parse_yaml(text, where).data


def parse_yaml(text: str, where: str) -> YamlDocument:
    """Parse YAML text; `where` names it in errors."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        reader = _Reader(loader, where)
        return YamlDocument(data=None if node is None else reader.value(node, ()), lines=reader.lines)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    finally:
        loader.dispose()


class _Reader:
    """Turns a node into plain data."""

    def __init__(self, loader: _Loader, where: str) -> None:
        self._loader = loader
        self._where = where
        self.lines: dict[KeyPath, int] = {}

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key == "<<":
                raise ConfigError(f"{self._where}:{line}: merge keys are not read; write the values out")
            if key in result:
                raise ConfigError(
                    f"{self._where}:{line}: '{key}' stands here a second time (first on line {first[key]}); remove one"
                )
            first[key] = self.lines[(*path, key)] = line
            result[key] = self.value(value_node, (*path, key))
        return result
