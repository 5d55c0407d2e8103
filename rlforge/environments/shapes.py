"""What every shape of environment is read as: a kind that makes simulations, driven by one loop for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlforge.environments.calls import Caller
from rlforge.types import EnvironmentSpec, Message, Observation, Task


class Simulation(Protocol):
    """One world in the user's code. Whatever goes wrong there is raised as EndpointBroken."""

    async def reset(self, task: Task, seed: int) -> Observation:
        """What the world first shows."""
        ...

    async def step(self, reply: Message) -> Observation:
        """What it shows after the model's reply."""
        ...

    async def close(self) -> None:
        """Let the user's code clean up; called once, after the last step has come back."""
        ...


class Kind(Protocol):
    """A shape's reading of what the user gave."""

    name: str

    async def describe(self, call: Caller) -> EnvironmentSpec:
        """What kind of world it is."""
        ...

    async def tasks(self, split: str, call: Caller) -> Sequence[Task]:
        """The tasks of a split. Raises EndpointRefused when there is no such split."""
        ...

    async def make(self, call: Caller) -> Simulation:
        """A new world that shares nothing with others."""
        ...
