"""Environments and reward endpoints behind `grpc://` and `grpcs://`."""

from __future__ import annotations

from rlforge.transports.config import EndpointConfig
from rlforge.transports.grpc_channel import Channels
from rlforge.transports.grpc_environment import GrpcEnvironment
from rlforge.transports.grpc_reward import GrpcReward


class Grpc:
    """The transport of `grpc://` and `grpcs://`."""

    def __init__(self, config: EndpointConfig) -> None:
        self._channels = Channels(config)

    def environment(self) -> GrpcEnvironment:
        """The environment at the address."""
        return GrpcEnvironment(self._channels)

    def reward(self) -> GrpcReward:
        """The reward endpoint at the address."""
        return GrpcReward(self._channels)
