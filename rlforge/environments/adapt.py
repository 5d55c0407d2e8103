"""`adapt`: whatever shape the user's world has, it becomes an environment."""

from __future__ import annotations

from typing import Any

from rlforge.environments.bounded import BoundedEnvironment
from rlforge.environments.local import LocalEnvironment
from rlforge.environments.origin import Origin, origin_of
from rlforge.environments.shapes import Kind
from rlforge.environments.simulator import SimulatorKind
from rlforge.errors import ConfigError
from rlforge.interfaces import Environment


def adapt(thing: Any, *, worlds: int = 0, processes: int = 0) -> Environment:
    """The environment that a class, a factory or an object of the user's is.

    It plays the Environment role already, or has Gymnasium's shape (`reset` and `step`), or makes a `gymnasium.Env`,
    or has public methods with docstrings, which become tools. `worlds` may live at once (0: no bound), spread over
    `processes` (0: in this one). Raises ConfigError that says what is missing when it is none of these.
    Example: `adapt(Arm, worlds=64)`.
    """
    if processes:
        raise ConfigError("worlds in processes of their own are not there yet")
    environment = _in_this_process(thing)
    return BoundedEnvironment(environment, worlds) if worlds else environment


def _in_this_process(thing: Any) -> Environment:
    origin = origin_of(thing)
    if isinstance(origin.example, Environment):  # a class that has all methods passes for one, too
        return origin.make() if isinstance(origin.example, type) else origin.example
    return LocalEnvironment(_kind(origin))


def _kind(origin: Origin) -> Kind:
    has = [name for name in ("reset", "step") if callable(getattr(origin.example, name, None))]
    if len(has) == 2:
        return SimulatorKind(origin)
    raise ConfigError(
        f"'{origin.name}' is no environment: it has {' but no '.join(_said(has))}. "
        "Give it reset(task, seed) and step(action), or public methods with docstrings, which become tools"
    )


def _said(has: list[str]) -> list[str]:
    missing = [name for name in ("reset", "step") if name not in has]
    return [" and ".join(f"{name}()" for name in names) for names in (has, missing) if names]
