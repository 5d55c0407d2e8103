"""Environments and reward endpoints in this process: `python:FILE.py:Name` or `python:package.module:Name`."""

from __future__ import annotations

from typing import Any

from rlforge.environments.adapt import adapt
from rlforge.importing import import_function
from rlforge.interfaces import Environment, RewardEndpoint
from rlforge.registry import import_object
from rlforge.transports.config import EndpointConfig


class InProcess:
    """The transport of `python:`: no transport at all."""

    def __init__(self, config: EndpointConfig) -> None:
        self._target = config.address.partition(":")[2]
        self._thing = import_function(self._target, "endpoint")

    def environment(self) -> Environment:
        """The environment that the class, factory or object makes."""
        return adapt(self._thing)

    def reward(self) -> RewardEndpoint:
        """The reward endpoint that the function or object makes."""
        # what puts a function into the role belongs to hosting, a layer above: named, as registered parts are
        endpoint: Any = import_object("rlforge.hosting.scorers:as_reward_endpoint", "transport")
        return endpoint(self._thing)
