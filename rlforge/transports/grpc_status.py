"""What a gRPC status means to us."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import grpc.aio
from grpc import StatusCode

from rlforge.errors import (
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointCancelled,
    EndpointRefused,
    EndpointUnavailable,
    RlforgeError,
)
from rlforge.transports.secrets import Secret, redacted

END: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]  # missing from the types, not from grpc
"""What reading a stream gives once it has ended."""
RETRY_AFTER = "retry-after-ms"
"""Trailing metadata of a refusal for want of room: milliseconds to wait."""
SHOWN_CHARACTERS = 2000

BROKEN_OFF = "Internal error from Core"
"""What our own gRPC library says of a stream that no longer takes what we write, when the server has said nothing."""
_TOO_LONG = re.compile("message.*(larger|exceeds)", re.IGNORECASE)
"""What gRPC libraries say of a message beyond their limit, with the same status as for want of room."""
_MEANING: dict[StatusCode, type[RlforgeError]] = {
    StatusCode.UNAVAILABLE: EndpointUnavailable,
    StatusCode.CANCELLED: EndpointCancelled,  # by the server: we never wait for what we cancelled
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.ABORTED: EndpointBroken,
    StatusCode.INTERNAL: EndpointBroken,
    StatusCode.UNKNOWN: EndpointBroken,
    StatusCode.DATA_LOSS: EndpointBroken,
}


def from_status(error: Any, doing: str, secrets: Iterable[Secret | None] = ()) -> RlforgeError:
    """Our error for an `AioRpcError`; `doing` says what was being done, address included."""
    code: StatusCode = error.code()
    said = redacted(str(error.details() or ""), secrets)[:SHOWN_CHARACTERS]
    message = f"{doing}: {code.name}: {said}" if said else f"{doing}: {code.name}"
    if code is StatusCode.RESOURCE_EXHAUSTED and not _TOO_LONG.search(said):
        return EndpointBusy(message, _advice_s(error))
    if code is StatusCode.INTERNAL and said == BROKEN_OFF:
        return EndpointUnavailable(f"{doing}: the connection broke off")
    return _MEANING.get(code, EndpointRefused)(message + _hint(code))


def _advice_s(error: Any) -> float:
    for name, advice in error.trailing_metadata() or ():
        if name == RETRY_AFTER and str(advice).isdigit():
            return int(advice) / 1000
    return 0.0


def _hint(code: StatusCode) -> str:
    match code:
        case StatusCode.UNAUTHENTICATED | StatusCode.PERMISSION_DENIED:
            return "; check `token` (env:NAME or file:PATH) and `tls`"
        case StatusCode.UNIMPLEMENTED:
            return "; is another service served at this address?"
        case StatusCode.RESOURCE_EXHAUSTED:
            return "; raise `max_message_bytes` on both sides"
        case _:
            return ""
