"""What a server answers when something went wrong: the same faults over gRPC and HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from rlforge.errors import (
    DataError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointRefused,
    EndpointUnavailable,
    ExtensionError,
)


class OutOfOrder(EndpointRefused):
    """A step that is neither the next one nor the last one again."""


class UnknownWorld(EndpointUnavailable):
    """No world of this name lives here."""


class UnknownSplit(EndpointRefused):
    """The environment has no such set of tasks."""


class NotAllowed(EndpointRefused):
    """The token or the signature is missing or wrong."""


class TooLong(EndpointRefused):
    """A message beyond the limit."""


@dataclass(frozen=True)
class Fault:
    """How a kind of error is told."""

    kind: str
    status: str
    """Name of the gRPC status."""
    http: int
    retryable: bool


_FAULTS: dict[type[BaseException], Fault] = {
    OutOfOrder: Fault("out_of_order", "FAILED_PRECONDITION", 409, False),
    UnknownWorld: Fault("unknown_world", "NOT_FOUND", 404, True),
    UnknownSplit: Fault("unknown_split", "NOT_FOUND", 404, False),
    NotAllowed: Fault("not_allowed", "UNAUTHENTICATED", 401, False),
    TooLong: Fault("too_long", "RESOURCE_EXHAUSTED", 413, False),
    EndpointRefused: Fault("refused", "INVALID_ARGUMENT", 400, False),
    DataError: Fault("malformed", "INVALID_ARGUMENT", 400, False),
    EndpointBusy: Fault("busy", "RESOURCE_EXHAUSTED", 429, True),
    EndpointUnavailable: Fault("unavailable", "UNAVAILABLE", 503, True),
    DeadlineExceeded: Fault("deadline", "DEADLINE_EXCEEDED", 504, True),
    EndpointBroken: Fault("broken", "ABORTED", 500, True),
    ExtensionError: Fault("broken", "ABORTED", 500, True),
}
_BUG = Fault("bug", "INTERNAL", 500, False)


def fault_of(error: BaseException) -> Fault:
    """How this error is told: as the nearest of its classes that has a place, else as a bug."""
    return next((_FAULTS[kind] for kind in type(error).__mro__ if kind in _FAULTS), _BUG)
