"""What is to be checked: an address, or code that is served for as long as the check takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

from rlforge.checks.fault import Fault
from rlforge.errors import EndpointRefused, EndpointUnavailable
from rlforge.importing import import_function
from rlforge.transports.config import EndpointConfig

_SERVED_AT = "grpc://127.0.0.1:0"


@asynccontextmanager
async def reached(
    config: EndpointConfig, kind: Literal["environment", "reward"], worlds: int
) -> AsyncGenerator[EndpointConfig]:
    """The endpoint with a real address: that of `python:FILE.py:Name` is a server in this process.

    Raises ConfigError or ExtensionError when the code cannot be imported or served.
    """
    if config.scheme != "python":
        yield config
        return
    # hosting starts a server: only where there is none
    from rlforge.hosting.serve import serving

    thing = import_function(config.address.partition(":")[2], kind)
    limit = worlds if kind == "environment" else 0
    async with serving(thing, _SERVED_AT, kind=kind, worlds=limit, token=config.token) as address:
        yield config.model_copy(update={"address": address})


def refuse_to_begin(fault: Fault, address: str) -> None:
    """Raises EndpointError when a fault of the very first call means that nothing can be checked at all."""
    if fault.code == "UNAVAILABLE":
        raise EndpointUnavailable(f"{address} cannot be reached: {fault.said}; is it running, and is TLS as it says?")
    if fault.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        raise EndpointRefused(f"{address} lets nobody in without the right token: {fault.said}; give it with --token")
