"""A class whose public methods are tools: the model calls them, and the world is over when it calls none."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlforge.environments.calls import Caller
from rlforge.environments.observations import content_of, first_observation, reward_of
from rlforge.environments.origin import Origin
from rlforge.environments.shapes import Simulation
from rlforge.environments.simulator import reset_arguments, spec_of
from rlforge.environments.task_lists import TaskLists
from rlforge.environments.tool import MalformedCall, Tool
from rlforge.registry import suggest
from rlforge.types import EnvironmentSpec, Message, Observation, Task, TextPart, ToolCall

_NO_TOOLS = frozenset({"reset", "reward", "done", "close", "tasks", "splits"})


class ToolsKind:
    """Implements `Kind`. `reset(task, seed)`, `reward()`, `done` and `close()` are there when the class has them."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._task_lists = TaskLists(origin)
        self._tools = tools_of(origin.example, origin.name)
        has_reset = callable(getattr(origin.example, "reset", None))
        self._takes = reset_arguments(origin.example, origin.name) if has_reset else None
        self._spec = spec_of(origin, tools=tuple(tool.spec for tool in self._tools.values()))
        self.name = self._spec.name

    async def describe(self, call: Caller) -> EnvironmentSpec:
        """What the class says of itself."""
        return replace(self._spec, splits=await self._task_lists.sizes(call))

    async def tasks(self, split: str, call: Caller) -> Sequence[Task]:
        """The tasks of a split."""
        return await self._task_lists.tasks(split, call)

    async def make(self, call: Caller) -> Simulation:
        """A new world."""
        return _Tools(await call(self._origin.make), self._tools, self._takes, call)


class _Tools:
    """Implements `Simulation`.

    `reward()` says how good things are by now; each step's reward is by how much that has changed, so that a rollout
    which is cut short keeps what it had reached.
    """

    def __init__(self, made: Any, tools: dict[str, Tool], takes: frozenset[str] | None, call: Caller) -> None:
        self._made = made
        self._tools = tools
        self._takes = takes
        self._call = call
        self._reached = 0.0

    async def reset(self, task: Task, seed: int) -> Observation:
        if self._takes is None:
            return Observation()
        given: dict[str, Any] = {"task": task, "seed": seed, "options": {"task": task}}
        taken = {name: given[name] for name in self._takes}
        return first_observation(await self._call(self._made.reset, **taken), self._made)

    async def step(self, reply: Message) -> Observation:
        answers = [await self._answer(call) for call in reply.tool_calls]
        malformed = sum(wrong for _, wrong in answers)
        over = not reply.tool_calls or await self._done()
        reward, components = await self._earned(reply)
        return Observation(
            messages=tuple(message for message, _ in answers),
            reward=reward,
            components={**components, "malformed_actions": float(malformed)} if malformed else components,
            terminated=over,
        )

    async def close(self) -> None:
        if callable(close := getattr(self._made, "close", None)):
            await self._call(close)

    async def _answer(self, wish: ToolCall) -> tuple[Message, bool]:
        """The tool's answer, and whether the call was malformed."""
        try:
            arguments = self._find(wish.name).arguments(wish.arguments)
        except MalformedCall as error:
            return Message(role="tool", content=(TextPart(text=str(error)),), tool_call_id=wish.id), True
        given = await self._call(getattr(self._made, wish.name), **arguments)
        content = () if given is None else content_of(given)
        return Message(role="tool", content=content, tool_call_id=wish.id), False

    def _find(self, name: str) -> Tool:
        if name not in self._tools:
            known = ", ".join(self._tools)
            raise MalformedCall(f"there is no tool '{name}'. {suggest(name, self._tools)}Tools: {known}")
        return self._tools[name]

    async def _done(self) -> bool:
        done = getattr(self._made, "done", False)
        return bool(await self._call(done) if callable(done) else done)

    async def _earned(self, reply: Message) -> tuple[float | None, dict[str, float]]:
        """By how much `reward()` has changed; None where it says None, or where there is none."""
        function = getattr(self._made, "reward", None)
        if not callable(function):
            return None, {}
        wants_reply = bool(inspect.signature(function).parameters)
        now, components = reward_of(await (self._call(function, reply.text) if wants_reply else self._call(function)))
        if now is None:
            return None, components
        before, self._reached = self._reached, now
        return math.fsum((now, -before)), components


def tools_of(example: Any, name: str) -> dict[str, Tool]:
    """The public methods with docstrings, in the order they are written. Raises ConfigError for one that cannot be."""
    kind: type = example if isinstance(example, type) else type(example)
    written = {key: item for base in reversed(kind.__mro__) for key, item in vars(base).items()}
    return {
        key: Tool(key, item, name)
        for key, item in written.items()
        if inspect.isfunction(item) and item.__doc__ and not key.startswith("_") and key not in _NO_TOOLS
    }
