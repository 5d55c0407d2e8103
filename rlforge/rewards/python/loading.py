"""Finds a customer's reward function and makes sure that it can be called as it will be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlforge.errors import ConfigError, ExtensionError
from rlforge.importing import import_function
from rlforge.rewards.outcomes import describe


def load_function(target: str) -> Callable[..., Any]:
    """The function behind `file.py:name` or `package.module:name`. Raises ConfigError that says what is wrong."""
    try:
        return import_function(target, "reward function")
    except ExtensionError as error:
        file = str(Path(target.rpartition(":")[0]).resolve())
        why = describe(error.__cause__ or error, file)
        raise ConfigError(f"importing reward function '{target}': {why}") from error
    except SystemExit as error:
        raise ConfigError(f"importing reward function '{target}': it called sys.exit({error.code!r})") from error


def check_call(function: Any, target: str, options: dict[str, Any]) -> None:
    """Raise ConfigError unless `function(rollouts, **options)` is a call that it takes."""
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
