"""Functions of the user's: `file.py:name` or `package.module:name`."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from rlforge.errors import ConfigError, boundary
from rlforge.registry import import_object, suggest


def import_function(target: str, what: str, base: Path | None = None) -> Callable[..., Any]:
    """The function behind `file.py:name` (relative to `base`, else to the working directory) or `module:name`.

    A file is imported as Python would run it: its own folder comes first where it looks for modules, once.
    Raises ConfigError when it is not there or is no function, ExtensionError when importing it raises.
    """
    place, _, name = target.rpartition(":")
    if not place:
        raise ConfigError(f"{what} '{target}' does not say which name to take; write file.py:name or module:name")
    with boundary(f"importing {what} '{target}'"):
        if place.endswith(".py"):
            function = _member(_module((base or Path()) / place, target, what), name, target, what)
        else:
            _look_in(os.getcwd(), first=False)
            function = import_object(target, what)
    if not callable(function):
        raise ConfigError(f"{what} '{target}' is of type {type(function).__name__}, not a function")
    return function


def _module(file: Path, target: str, what: str) -> ModuleType:
    path = file.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{what} '{target}': there is no file {path}")
    _look_in(str(path.parent), first=True)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickling look their module up there
    spec.loader.exec_module(module)
    return module


def _member(module: ModuleType, name: str, target: str, what: str) -> Any:
    if not hasattr(module, name):
        hint = suggest(name, vars(module))
        raise ConfigError(f"{what} '{target}': {Path(str(module.__file__)).name} has no '{name}'. {hint}".rstrip())
    return getattr(module, name)


def _look_in(folder: str, *, first: bool) -> None:
    if folder not in sys.path:
        sys.path.insert(0 if first else len(sys.path), folder)
