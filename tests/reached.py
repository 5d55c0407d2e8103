"""A thing served behind an address of any registered scheme, encrypted where the scheme asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rlforge.hosting.serve import serving
from rlforge.registry import TRANSPORTS
from rlforge.transports.config import EndpointConfig, TlsConfig
from tests.certificates import Authority

HERE = "python"
SERVED = [scheme for scheme in TRANSPORTS.names() if scheme != HERE]
"""Schemes with a server behind them."""


@asynccontextmanager
async def served(thing: Any, scheme: str, folder: Path) -> AsyncIterator[EndpointConfig]:
    """Serve while the block runs; how to reach it. `folder` takes the certificates."""
    if EndpointConfig(address=f"{scheme}://127.0.0.1:0").secure:
        authority = Authority(folder, "authority")
        async with serving(thing, f"{scheme}://127.0.0.1:0", tls=authority.issue("server")) as address:
            yield EndpointConfig(address=address, tls=TlsConfig(ca=authority.file))
        return
    async with serving(thing, f"{scheme}://127.0.0.1:0") as address:
        yield EndpointConfig(address=address)
