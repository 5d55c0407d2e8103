"""Finds a customer's reward function and makes sure that it can be called as it will be."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlforge.errors import ConfigError, ExtensionError, boundary
from rlforge.registry import import_object, suggest
from rlforge.rewards.outcomes import describe


def load_function(target: str) -> Callable[..., Any]:
    """The function behind `file.py:name` or `package.module:name`. Raises ConfigError that says what is wrong."""
    what = f"importing reward function '{target}'"
    try:
        with boundary(what):
            return _import(target)
    except ExtensionError as error:
        file = str(Path(target.rpartition(":")[0]).resolve())
        raise ConfigError(f"{what}: {describe(error.__cause__ or error, file)}") from error
    except SystemExit as error:
        raise ConfigError(f"{what}: it called sys.exit({error.code!r})") from error


def check_call(function: Any, target: str, options: dict[str, Any]) -> None:
    """Raise ConfigError unless `function(rollouts, **options)` is a call that it takes."""
    if not callable(function):
        raise ConfigError(f"reward function '{target}' is of type {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(object(), **options)
    except TypeError as error:
        given = "".join(f", {name}=…" for name in options)
        called = f"{getattr(function, '__name__', 'it')}(rollout{given})"
        raise ConfigError(f"reward function '{target}' cannot be called as {called}: {error}") from error
    except ValueError:  # some built-in functions have no signature to check
        return


def source_of(function: Any) -> str:
    """The file a function was written in, as tracebacks name it."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None) or getattr(_call_of(inner), "__code__", None)
    return code.co_filename if code else ""


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


def _call_of(function: Any) -> Any:
    return getattr(type(function), "__call__", None)  # noqa: B004  which one, not whether


def _import(target: str) -> Callable[..., Any]:
    """Import as Python would run the file: with its folder first on the import path."""
    place, _, name = target.rpartition(":")
    if not place.endswith(".py"):
        sys.path.append(os.getcwd())
        return import_object(target, "reward function")
    path = Path(place).resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"reward function '{target}': there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        hint = suggest(name, vars(module))
        raise ConfigError(f"reward function '{target}': {path.name} has no '{name}'. {hint}".rstrip())
    return getattr(module, name)
