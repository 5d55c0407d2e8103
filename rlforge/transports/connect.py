"""Reaches an environment or a reward endpoint by its address."""

from __future__ import annotations

from rlforge.interfaces import Environment, RewardEndpoint
from rlforge.registry import TRANSPORTS
from rlforge.transports.config import EndpointConfig


def connect_environment(config: EndpointConfig) -> Environment:
    """The environment behind an address. Connects at its first use; reads secrets now.

    Raises ConfigError for a secret or a certificate that is not there, or a `python:` target that cannot be imported.
    Example: `connect_environment(EndpointConfig(address="grpc://simulator:50051", token="env:SIMULATOR_TOKEN"))`
    """
    return TRANSPORTS.load(config.scheme)(config).environment()


def connect_reward(config: EndpointConfig) -> RewardEndpoint:
    """The reward endpoint behind an address. Connects at its first use; reads secrets now. Raises ConfigError likewise.

    Example: `connect_reward(EndpointConfig(address="https://judge.example:8443", token="file:judge.token"))`
    """
    return TRANSPORTS.load(config.scheme)(config).reward()
