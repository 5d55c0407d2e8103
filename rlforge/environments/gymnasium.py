"""A `gymnasium.Env`, as it is: replies become actions, arrays become JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium

from rlforge.environments.actions import MalformedAction, Space, action_of, how_to_act
from rlforge.environments.calls import Caller
from rlforge.environments.observations import first_observation, step_observation
from rlforge.environments.origin import Origin
from rlforge.environments.shapes import Simulation
from rlforge.environments.simulator import spec_of
from rlforge.environments.task_lists import TaskLists
from rlforge.errors import boundary
from rlforge.types import EnvironmentSpec, Message, Observation, Task, TextPart


class GymnasiumKind:
    """Implements `Kind`. One object is made and closed at once, to learn its action space and its name."""

    def __init__(self, origin: Origin) -> None:
        origin = _remade(origin)
        with boundary(f"making '{origin.name}' to see its action space"):
            example = origin.make()
            self._space: Space = example.action_space
            registered = example.spec
            example.close()
        self._origin = replace(origin, name=registered.id if registered else origin.name)
        self._task_lists = TaskLists(self._origin)
        self._spec = spec_of(self._origin, tools=())
        if registered:
            self._spec = replace(self._spec, deterministic=not registered.nondeterministic)
        self._how = how_to_act(self._space)
        self.name = self._spec.name

    async def describe(self, call: Caller) -> EnvironmentSpec:
        """What its registration says."""
        return replace(self._spec, splits=await self._task_lists.sizes(call))

    async def tasks(self, split: str, call: Caller) -> Sequence[Task]:
        """The tasks of a split: only a class of the user's own has any."""
        return await self._task_lists.tasks(split, call)

    async def make(self, call: Caller) -> Simulation:
        """A new world."""
        return _Gymnasium(await call(self._origin.make), self._space, self._how, call)


class _Gymnasium:
    """Implements `Simulation`."""

    def __init__(self, made: Any, space: Space, how: str, call: Caller) -> None:
        self._made = made
        self._space = space
        self._how = how
        self._call = call

    async def reset(self, task: Task, seed: int) -> Observation:
        """The first observation, with a sentence on how to act."""
        given = await self._call(self._made.reset, seed=seed, options={"task": task})
        observation = first_observation(given, self._made)
        *before, last = observation.messages or (Message(role="user"),)
        space = "\n" if last.content else ""
        told = replace(last, content=(*last.content, TextPart(text=f"{space}{self._how}")))
        return replace(observation, messages=(*before, told))

    async def step(self, reply: Message) -> Observation:
        try:
            action = action_of(reply.text, self._space)
        except MalformedAction as error:
            told = Message.of("user", str(error))
            return Observation(messages=(told,), components={"malformed_actions": 1.0})
        return step_observation(await self._call(self._made.step, action), self._made)

    async def close(self) -> None:
        await self._call(self._made.close)


def is_gymnasium(example: Any) -> bool:
    """Whether it is a `gymnasium.Env`, or a class of them."""
    kind: type = example if isinstance(example, type) else type(example)
    return issubclass(kind, gymnasium.Env)


def _remade(origin: Origin) -> Origin:
    """Worlds of one registered object are made anew: few simulators can be copied."""
    if isinstance(origin.example, gymnasium.Env) and origin.copies and origin.example.spec is not None:
        registered = origin.example.spec
        return replace(origin, make=lambda: gymnasium.make(registered))
    return origin
