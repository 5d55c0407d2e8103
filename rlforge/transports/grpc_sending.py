"""Sends on a stream so that a send that fails leaves standing what the server said.

A server may end a stream before it reads: it is full, it drains, it does not know the token. A send that is under way
then fails, and `grpc.aio`'s own `write` ends the call as INTERNAL over the status that the server gave
(grpc/grpc#36066): "full, ask again in 50 ms" would reach us as a broken connection. What `write` does besides that is
these few lines.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from grpc._cython import cygrpc  # the fault of a failed send has no public name

STATUS_S = 1.0
"""Seconds that the status of a call may take to arrive after a send failed, before we give it one."""


async def send(call: Any, message: bytes) -> bool:
    """Send on the call; False once it has ended, and reading it says how."""
    try:
        await call.wait_for_connection()
        await _raw(call).send_serialized_message(message)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False
    except cygrpc.InternalError as error:
        await _ended(call, str(error))
        return False
    return True


async def _ended(call: Any, reason: str) -> None:
    """Return when the call has its status: Core does not promise one after a send that it refused outright."""
    try:
        await asyncio.wait_for(asyncio.shield(call.code()), STATUS_S)
    except TimeoutError:
        _raw(call).set_internal_error(reason)


def _raw(call: Any) -> Any:
    return call._cython_call
