"""`adapt`: whatever shape the user's world has, it becomes an environment."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from rlforge.environments.bounded import BoundedEnvironment
from rlforge.environments.local import LocalEnvironment
from rlforge.environments.origin import Origin, origin_of
from rlforge.environments.shapes import Kind
from rlforge.environments.simulator import SimulatorKind
from rlforge.environments.spread import SpreadEnvironment
from rlforge.environments.tools import ToolsKind, tools_of
from rlforge.errors import ConfigError
from rlforge.interfaces import Environment


def adapt(thing: Any, *, worlds: int = 0, processes: int = 0) -> Environment:
    """The environment that a class, a factory or an object of the user's is.

    It plays the Environment role already, or has Gymnasium's shape (`reset` and `step`), or is a `gymnasium.Env`, or
    has public methods with docstrings, which become tools. `worlds` may live at once (0: no bound), spread over
    `processes` (0: in this one), where one that dies takes only its own worlds along. Raises ConfigError that says what
    is missing when it is none of these, and ExtensionError when making one raises; with `processes` both come when it
    is first used.
    Example: `adapt(Arm, worlds=64)`.
    """
    environment = SpreadEnvironment(thing, processes) if processes else adapt_here(thing)
    return BoundedEnvironment(environment, worlds) if worlds else environment


def adapt_here(thing: Any) -> Environment:
    """The environment in this process, without a bound."""
    origin = origin_of(thing)
    if isinstance(origin.example, Environment):  # a class that has all methods passes for one, too
        return origin.make() if isinstance(origin.example, type) else origin.example
    return LocalEnvironment(_kind(origin))


def _kind(origin: Origin) -> Kind:
    if "gymnasium" in sys.modules:
        from rlforge.environments.gymnasium import GymnasiumKind, is_gymnasium

        if is_gymnasium(origin.example):
            return GymnasiumKind(origin)
    has = [name for name in ("reset", "step") if callable(getattr(origin.example, name, None))]
    if len(has) == 2:
        return SimulatorKind(origin)
    if "step" not in has and tools_of(origin.example, origin.name):
        return ToolsKind(origin)
    raise ConfigError(f"'{origin.name}' is no environment: {_lacks(origin.example, has)}")


def _lacks(example: Any, has: list[str]) -> str:
    if has == ["step"]:
        return "it has step() but no reset(); write reset(self, task, seed), which returns what the model sees"
    kind: type = example if isinstance(example, type) else type(example)
    methods = [name for name, item in vars(kind).items() if inspect.isfunction(item) and not name.startswith("_")]
    bare = [name for name in methods if name != "reset"]
    missing = "step()" if has else "neither reset() nor step()"
    tools = f"{', '.join(bare)} would be tools if they had docstrings" if bare else "no public methods to be tools"
    return (
        f"it has {'no ' if has else ''}{missing}, and {tools}. Write reset(self, task, seed) and step(self, action), "
        "or give the methods a model may call a docstring and type hints"
    )
