"""What an endpoint answers instead of an answer, in one vocabulary for gRPC and HTTP."""

from __future__ import annotations

REFUSALS = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE")
"""The request is wrong, and the server says so."""
UNREADABLE = (*REFUSALS, "INTERNAL", "UNKNOWN")
"""The request cannot be read; most gRPC libraries answer that themselves, each in its own way."""

_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "ABORTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Fault(Exception):
    """A call or a stream that ended in a status."""

    def __init__(self, code: str, said: str, doing: str = "", *, retry_after: bool = False) -> None:
        self.told = f"{code} ({said})" if said else code
        """Status and words, without what was being done."""
        super().__init__(f"{doing}: {self.told}" if doing else self.told)
        self.code = code
        """Name of the gRPC status, whichever the transport; `OK` where a stream ended before its answer."""
        self.said = said
        self.retry_after = retry_after
        """Whether it came with advice when to ask again."""


def code_of_http(status: int) -> str:
    """The gRPC status that an HTTP status stands for."""
    return _OF_HTTP.get(status, f"HTTP {status}")
