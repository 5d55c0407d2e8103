"""A class of Gymnasium's shape: `reset(task, seed)`, `step(action)`, and `close()` where there is something to free."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from rlforge.environments.calls import Caller
from rlforge.environments.observations import first_observation, step_observation
from rlforge.environments.origin import Origin
from rlforge.environments.shapes import Simulation
from rlforge.environments.task_lists import TaskLists
from rlforge.errors import ConfigError
from rlforge.types import EnvironmentSpec, Message, Observation, Task, ToolSpec


class SimulatorKind:
    """Implements `Kind`. `step` is given the reply's text, or the whole Message where its parameter is annotated so."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._task_lists = TaskLists(origin)
        self._takes = reset_arguments(origin.example, origin.name)
        self._whole = _takes_message(origin.example)
        self._spec = spec_of(origin)
        self.name = self._spec.name

    async def describe(self, call: Caller) -> EnvironmentSpec:
        """What the class says of itself."""
        return replace(self._spec, splits=await self._task_lists.sizes(call))

    async def tasks(self, split: str, call: Caller) -> Sequence[Task]:
        """The tasks of a split."""
        return await self._task_lists.tasks(split, call)

    async def make(self, call: Caller) -> Simulation:
        """A new world."""
        return _Simulator(await call(self._origin.make), self._takes, self._whole, call)


class _Simulator:
    """Implements `Simulation`."""

    def __init__(self, made: Any, takes: frozenset[str], whole: bool, call: Caller) -> None:
        self._made = made
        self._takes = takes
        self._whole = whole
        self._call = call

    async def reset(self, task: Task, seed: int) -> Observation:
        given: dict[str, Any] = {"task": task, "seed": seed, "options": {"task": task}}
        taken = {name: given[name] for name in given if name in self._takes}
        return first_observation(await self._call(self._made.reset, **taken), self._made)

    async def step(self, reply: Message) -> Observation:
        return step_observation(await self._call(self._made.step, reply if self._whole else reply.text), self._made)

    async def close(self) -> None:
        if callable(close := getattr(self._made, "close", None)):
            await self._call(close)


def reset_arguments(example: Any, name: str) -> frozenset[str]:
    """Which of `task`, `seed` and `options` its `reset` takes. Raises ConfigError when it wants anything else."""
    named = list(inspect.signature(example.reset).parameters.values())
    if inspect.isclass(example) and not isinstance(inspect.getattr_static(example, "reset"), staticmethod):
        named = named[1:]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in named):
        return frozenset({"task", "seed"})
    takes = {each.name for each in named} & {"task", "seed", "options"}
    for each in named:
        needed = each.default is inspect.Parameter.empty and each.kind is not inspect.Parameter.VAR_POSITIONAL
        positional = each.kind is inspect.Parameter.POSITIONAL_ONLY
        if needed and (each.name not in takes or positional):
            raise ConfigError(
                f"environment '{name}': reset() wants '{each.name}'; it is given `task` and `seed` by name: "
                "write reset(self, task, seed), or leave out what it does not need"
            )
    return frozenset(takes - {"options"} if "task" in takes else takes)


def spec_of(origin: Origin, tools: tuple[ToolSpec, ...] | None = None) -> EnvironmentSpec:
    """What class attributes say: `name`, `version`, `deterministic`, `step_timeout_s`, `tools`."""
    example = origin.example
    name = getattr(example, "name", None)
    return EnvironmentSpec(
        name=name if isinstance(name, str) and name else origin.name,
        version=str(getattr(example, "version", "")),
        deterministic=bool(getattr(example, "deterministic", False)),
        step_timeout_s=float(getattr(example, "step_timeout_s", 0.0)),
        tools=tools if tools is not None else _tools(getattr(example, "tools", None), origin.name),
    )


def _takes_message(example: Any) -> bool:
    """Whether `step` asks for the whole reply, by the annotation of its parameter or by offering tools."""
    annotations = [each.annotation for each in inspect.signature(example.step).parameters.values()]
    return any(each is Message or str(each).rpartition(".")[2] == "Message" for each in annotations) or bool(
        getattr(example, "tools", None)
    )


def _tools(given: Any, name: str) -> tuple[ToolSpec, ...]:
    if given is None or callable(given):
        return ()
    return tuple(_tool(item, name) for item in cast(Iterable[Any], given))


def _tool(item: Any, name: str) -> ToolSpec:
    """One of ours, or a dict with name, description and parameters, alone or as the `function` of another."""
    if isinstance(item, ToolSpec):
        return item
    if isinstance(item, Mapping):
        row = cast(Mapping[str, Any], item)
        row = cast(Mapping[str, Any], row.get("function", row))
        if isinstance(row.get("name"), str):
            return ToolSpec(
                name=row["name"],
                description=str(row.get("description", "")),
                parameters=dict(row.get("parameters", {})),
            )
    raise ConfigError(f"environment '{name}': a tool is an rlforge ToolSpec or a dict with a name, not {item!r:.120}")
