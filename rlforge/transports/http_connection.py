"""HTTP connections of a client: certificates, bearer token, signatures, limits, and what a status means."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from contextlib import suppress
from typing import Any, cast

import httpx

from rlforge.errors import (
    ConfigError,
    DeadlineExceeded,
    EndpointBroken,
    EndpointBusy,
    EndpointRefused,
    EndpointUnavailable,
    RlforgeError,
)
from rlforge.transports.config import EndpointConfig, TlsConfig
from rlforge.transports.retry_after import advice_s
from rlforge.transports.secrets import Secret, read_secret, redacted
from rlforge.transports.signing import SIGNATURE, TIMESTAMP, signature

MOST_CONNECTIONS = 512
"""Sockets at most: a request beyond them waits for one, within its deadline."""
SHOWN_CHARACTERS = 2000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NoSuchPath(EndpointRefused):
    """The endpoint answers, but not at this path."""


class HttpConnection:
    """The connections to one endpoint, made at their first use."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._token = read_secret(config.token, f"token of {config.address}")
        self._key = read_secret(config.signing_key, f"signing key of {config.address}")
        self._tls = _context(config.tls) if config.secure else True
        try:
            self._url = httpx.URL(config.address.rstrip("/"))
        except httpx.InvalidURL as error:
            raise ConfigError(f"'{config.address}' is no address: {error}") from error
        self._client: httpx.AsyncClient | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        *,
        doing: str,
        timeout_s: float,
        attempts: int = 1,
        headers: dict[str, str] | None = None,
    ) -> tuple[bytes, httpx.Headers]:
        """The body and headers of a good answer within `timeout_s` seconds.

        A request that is the same when it comes twice has two `attempts`: the second when the connection dropped.
        Raises EndpointError or DeadlineExceeded.
        """
        sent = b"" if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        what = f"{doing} at {self.config.address}"
        try:
            async with asyncio.timeout(timeout_s):
                for left in reversed(range(attempts)):
                    try:
                        return await self._once(method, path, sent, headers or {}, what)
                    except _DROPPED:
                        if not left:
                            raise
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self._late(error, what, timeout_s) from error
        except httpx.TransportError as error:
            why = f"{type(error).__name__}: {self.shown(error)}".rstrip(": ")
            raise EndpointUnavailable(f"{what}: {why}") from error
        except httpx.HTTPError as error:
            raise EndpointBroken(f"{what}: the answer makes no sense: {self.shown(error)}") from error
        raise AssertionError("at least one attempt is made")

    def path_of(self, location: str, asked: str, what: str) -> str:
        """The path below our address of a `Location`: a path, or a whole address of the same origin.

        Raises EndpointBroken for none and for a stranger's, who would be sent our token.
        """
        base = httpx.URL(f"{self._url}{asked}")
        there = None
        with suppress(httpx.InvalidURL):
            there = base.join(location) if location else None
        if there is None or (there.scheme, there.host, there.port) != (base.scheme, base.host, base.port):
            said = redacted(location, self.secrets)
            raise EndpointBroken(
                f"{what} at {self.config.address} has no address there: send its path as `Location`, not '{said}'"
            )
        path, prefix = there.raw_path.decode(), self._url.path.rstrip("/")
        return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path

    @property
    def secrets(self) -> tuple[Secret | None, ...]:
        """What no message may show."""
        return self._token, self._key

    def shown(self, error: Exception) -> str:
        """What an error says, which may quote the endpoint, without our secrets."""
        return redacted(str(error), self.secrets)

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _once(
        self, method: str, path: str, sent: bytes, headers: dict[str, str], what: str
    ) -> tuple[bytes, httpx.Headers]:
        client = self._client = self._client or self._made()
        request = client.build_request(method, f"{self._url}{path}", content=sent, headers=headers | self._proof(sent))
        response = await client.send(request, stream=True)
        try:
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > self.config.max_message_bytes:
                    raise EndpointBroken(
                        f"{what}: the answer is longer than {self.config.max_message_bytes} bytes; "
                        "raise `max_message_bytes`"
                    )
        finally:
            await response.aclose()
        if response.is_success:
            return bytes(received), response.headers
        raise self._fault(response.status_code, bytes(received), response.headers, what)

    def _proof(self, body: bytes) -> dict[str, str]:
        proof = {"content-type": "application/json", "accept": "application/json"}
        if self._token:
            proof["authorization"] = f"Bearer {self._token.reveal()}"
        if self._key:
            now = str(int(time.time()))
            proof |= {TIMESTAMP: now, SIGNATURE: signature(self._key, now, body)}
        return proof

    def _fault(self, status: int, body: bytes, headers: httpx.Headers, what: str) -> RlforgeError:
        said, retryable = _said(body)
        message = f"{what}: HTTP {status}: {redacted(said, self.secrets)[:SHOWN_CHARACTERS]}"
        if status == 429 or (status == 503 and "retry-after" in headers):
            return EndpointBusy(message, advice_s(headers))
        if status in (401, 403):
            message += "; check `token`, `signing_key` (env:NAME or file:PATH) and `tls`"
        return _meaning(status, retryable)(message)

    def _late(self, error: Exception, what: str, timeout_s: float) -> RlforgeError:
        if isinstance(error, httpx.ConnectTimeout):
            return EndpointUnavailable(f"{what}: no connection within {self.config.connect_timeout_s:g} s")
        return DeadlineExceeded(f"{what}: no answer within {timeout_s:g} s")

    def _made(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            timeout=httpx.Timeout(None, connect=self.config.connect_timeout_s),
            limits=httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS),
            trust_env=self._url.host not in LOOPBACK,  # a proxy is not asked for what runs here
        )


_DROPPED = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
"""The connection was there and is gone: whether the request arrived is not known."""


def _meaning(status: int, retryable: bool) -> type[RlforgeError]:
    match status:
        case 502 | 503 | 408:
            return EndpointUnavailable
        case 404 | 405 | 501 if not retryable:  # 501 is what Python's own http.server says
            return NoSuchPath
        case 504:
            return DeadlineExceeded
        case _ if status >= 500:
            return EndpointBroken
        case _:
            return EndpointUnavailable if retryable else EndpointRefused


def _said(body: bytes) -> tuple[str, bool]:
    """The message of an answer `{"error": {"kind": …, "message": …, "retryable": …}}`, or the text it is."""
    text = body.decode(errors="replace")
    try:
        told: Any = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text.split()), False  # a page of HTML, on one line
    error: Any = cast(dict[str, Any], told).get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return text, False
    fields = cast(dict[str, Any], error)
    return f"{fields.get('kind', '')}: {fields.get('message', '')}", fields.get("retryable") is True


def _context(tls: TlsConfig) -> ssl.SSLContext:
    if (tls.certificate is None) != (tls.key is None):
        raise ConfigError("tls: certificate and key go together; one of them is missing")
    if tls.server_name is not None:
        raise ConfigError("tls: server_name works over gRPC only; over HTTP use the name in the certificate as address")
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"tls: cannot use {tls.ca or tls.certificate}: {error}") from error
    return context
