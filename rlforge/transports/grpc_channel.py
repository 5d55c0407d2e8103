"""gRPC connections of a client: certificates, bearer token, limits, signs of life."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from rlforge.errors import ConfigError
from rlforge.transports.certificates import read_pem
from rlforge.transports.config import EndpointConfig, TlsConfig
from rlforge.transports.secrets import Secret, read_secret

RECONNECT_MS = 3000
"""Milliseconds between attempts to reconnect at most: a restarted server is found soon."""


class Channels:
    """The connections to one endpoint, made at their first use, taken in turn."""

    def __init__(self, config: EndpointConfig) -> None:
        if config.signing_key is not None:
            raise ConfigError(f"{config.address}: signing_key signs HTTP requests; over gRPC use TLS and a token")
        self.config = config
        self.token = read_secret(config.token, f"token of {config.address}")
        self.metadata = (("authorization", f"Bearer {self.token.reveal()}"),) if self.token else ()
        self._credentials = _credentials(config.tls) if config.secure else None
        self._open: list[Any] = []
        self._next = itertools.count()
        self._connecting = asyncio.Lock()

    @property
    def secrets(self) -> tuple[Secret | None, ...]:
        """What must not be shown."""
        return (self.token,)

    async def ready(self) -> Any:
        """The next channel, connected; an RPC says what is wrong when it is not within `connect_timeout_s`."""
        if not self._open:
            self._open = [self._channel() for _ in range(self.config.connections)]
        channel = self._open[next(self._next) % len(self._open)]
        if channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            await self._connect(channel)
        return channel

    async def close(self) -> None:
        """Cancel what is under way and disconnect."""
        channels, self._open = self._open, []
        for channel in channels:
            await channel.close()

    async def _connect(self, channel: Any) -> None:
        try:
            async with (
                asyncio.timeout(self.config.connect_timeout_s),  # the wait for our turn to watch included
                self._connecting,  # one watcher, however many worlds wait for the connection
            ):
                while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            return

    def _channel(self) -> Any:
        options = _options(self.config)
        target = urlsplit(self.config.address).netloc
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, self._credentials, options=options)


def _options(config: EndpointConfig) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),  # else older gRPC gives two in a row at most
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
        ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share a connection
        ("grpc.enable_retries", 0),
    ]
    if config.tls.server_name:
        options.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return options


def _credentials(tls: TlsConfig) -> Any:
    if (tls.certificate is None) != (tls.key is None):
        raise ConfigError("tls: certificate and key go together; one of them is missing")
    return grpc.ssl_channel_credentials(
        root_certificates=_optional(tls.ca),
        private_key=_optional(tls.key),
        certificate_chain=_optional(tls.certificate),
    )


def _optional(path: str | None) -> bytes | None:
    return None if path is None else read_pem(path)
