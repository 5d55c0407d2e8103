"""Makes a connection for the checks, by the scheme of the address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlforge.checks.line import EnvironmentLine, RewardLine
from rlforge.checks.place import Place

if TYPE_CHECKING:
    from rlforge.checks.grpc_line import GrpcLine
    from rlforge.checks.http_line import HttpLine


def environment_line(place: Place) -> EnvironmentLine:
    """A connection to an environment."""
    return _line(place)


def reward_line(place: Place) -> RewardLine:
    """A connection to a reward endpoint."""
    return _line(place)


def _line(place: Place) -> GrpcLine | HttpLine:
    # gRPC and httpx are loaded when they are needed
    if place.scheme in ("http", "https"):
        from rlforge.checks.http_line import HttpLine

        return HttpLine(place)
    from rlforge.checks.grpc_line import GrpcLine

    return GrpcLine(place)
