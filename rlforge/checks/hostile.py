"""What strangers send to any endpoint, and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from rlforge.checks.fault import Fault
from rlforge.checks.properties import Failed, Warned

GARBAGE = b"\xff\xff\xff\xff not a message of any kind"
OVERSIZED_BYTES = 64 * 2**20
"""What no server should take that does not say so."""
WRONG_TOKENS = ((None, "no token"), ("rlforge-check-wrong-token", "a wrong token"), ("", "an empty token"))


class _Line(Protocol):
    async def healthy(self) -> str: ...


async def keeps_out(call: Awaitable[object], what: str) -> None:
    """Raises Failed unless the call is refused for its token."""
    try:
        await call
    except Fault as fault:
        if fault.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return
        raise Failed(f"{what} ended in {fault.told}, not UNAUTHENTICATED") from fault
    raise Failed(f"{what} was answered")


async def healthy(line: _Line) -> str:
    """What the health service says. Raises Failed when that is not SERVING, Warned when there is none."""
    try:
        said = await line.healthy()
    except Fault as fault:
        raise Warned(f"no health service: {fault.told}") from fault
    if said != "SERVING":
        raise Failed(f"the health service says {said} while the endpoint answers")
    return said
