"""What plain servers share: how a stream says that nothing more comes, and how one is put on a port."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc


def unmoved(action: Any) -> bool:
    """Whether the client has ended its side."""
    return action is grpc.aio.EOF


class Health(health_pb2_grpc.HealthServicer):
    """Says what it was told to say."""

    def __init__(self, status: str) -> None:
        self.status = status

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802
        return health_pb2.HealthCheckResponse(status=self.status)


@asynccontextmanager
async def listening(servicer: Any, add: Callable[[Any, Any], None]) -> AsyncGenerator[str]:
    """A server on a port of its own; yields its address."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", servicer.most_received)])
    add(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(Health(servicer.health), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)
