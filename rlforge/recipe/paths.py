"""Relative paths start where they were written: at the recipe's folder, or where you are on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from rlforge.errors import ConfigError
from rlforge.recipe.strict_yaml import KeyPath

_FILES = frozenset({"path", "runs_dir", "rubric_file", "cache", "ca", "certificate"})
"""Keys whose value is a path always (`model.path` may be a hub name and is one when there is such a folder)."""
_FUNCTIONS = frozenset({"function"})
"""Keys whose value is `file.py:name` or `package.module:name`."""
_SECRETS = frozenset({"api_key", "apikey", "token", "access_token", "hf_token", "password", "secret", "authorization"})
_SECRET_FILES = frozenset({"api_key", "token", "signing_key"})
"""Keys whose value says where a secret is: `env:NAME` or `file:PATH`."""


def absolute_paths(data: dict[str, Any], base_of: Callable[[KeyPath], Path]) -> None:
    """Make the paths in `data` absolute, in place; `base_of` says where each was written."""
    for container, key, path in _leaves(data, ()):
        value, base = container[key], base_of(path)
        if not isinstance(value, str):
            continue
        if path == ("model", "path") or key == "start_from":
            container[key] = _where_it_exists(value, base)
        elif key in _SECRET_FILES and value.startswith("file:"):
            container[key] = f"file:{_absolute(value.removeprefix('file:'), base)}"
        elif key in _FILES or path[-2:] == ("tls", "key"):
            container[key] = _absolute(value, base)
        elif key in _FUNCTIONS and value.rpartition(":")[0].endswith(".py"):
            container[key] = _absolute_function(value, base)
        elif key == "address" and value.startswith("python:") and value.rpartition(":")[0].endswith(".py"):
            container[key] = f"python:{_absolute_function(value.removeprefix('python:'), base)}"


def refuse_secrets(data: dict[str, Any]) -> None:
    """Raise ConfigError when a key that names a secret holds one: recipes are copied into run folders and shared."""
    for container, key, path in _leaves(data, ()):
        value = container[key]
        if not isinstance(value, str) or not value or value.startswith(("env:", "file:")):
            continue
        if str(key).lower() in _SECRETS:
            where = ".".join(str(step) for step in path)
            raise ConfigError(
                f"'{where}' holds a secret; recipes are kept and shared, so put it into an environment variable or a "
                "file, and say which: env:NAME or file:PATH"
            )


def _leaves(value: Any, path: KeyPath) -> list[tuple[Any, str | int, KeyPath]]:
    """Every scalar with its container and key."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(cast(dict[str | int, Any], value).items())
    elif isinstance(value, list):
        items = list(enumerate(cast(list[Any], value)))
    found: list[tuple[Any, str | int, KeyPath]] = []
    for key, inner in items:
        if isinstance(inner, dict | list):
            found += _leaves(inner, (*path, key))
        else:
            found.append((value, key, (*path, key)))
    return found


def _absolute(text: str, base: Path) -> str:
    return str(base / Path(text).expanduser()) if text else text


def _absolute_function(text: str, base: Path) -> str:
    file, _, name = text.rpartition(":")
    return f"{_absolute(file, base)}:{name}"


def _where_it_exists(text: str, base: Path) -> str:
    """Absolute when it is written as a path or is one, as it stands (a stage, a hub name) otherwise."""
    candidate = base / Path(text).expanduser()
    return str(candidate) if text.startswith((".", "~", "/")) or candidate.exists() else text
