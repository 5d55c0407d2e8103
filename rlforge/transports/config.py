"""How an endpoint is reached: its address, and what it takes to be let in."""

from __future__ import annotations

from pydantic import Field, field_validator

from rlforge.config import BaseConfig

SCHEMES = ("grpc", "grpcs", "http", "https", "python")


def refuse_credentials(address: str) -> None:
    """Raises ValueError for `https://name:password@host`: addresses stand in recipes, messages and run folders."""
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise ValueError("what stands before the '@' is a secret: leave it out and name a token, env:NAME or file:PATH")


class TlsConfig(BaseConfig):
    """Certificates for `grpcs://` and `https://`; all are PEM files."""

    ca: str | None = None
    """Authorities that may have signed the endpoint's certificate; unset: those the system trusts."""
    certificate: str | None = None
    """Our own certificate, where the endpoint asks for one (mTLS); goes with `key`."""
    key: str | None = None
    """Key of our certificate."""
    server_name: str | None = None
    """Name expected in the endpoint's certificate, where it differs from the address."""


class EndpointConfig(BaseConfig):
    """An endpoint: an environment or a scorer that somebody serves."""

    address: str
    """`grpc://host:port`, `grpcs://…`, `http://host:port`, `https://…`, or `python:FILE.py:Name` in this process."""
    token: str | None = None
    """Where the bearer token is: `env:NAME` or `file:PATH`. Never the token itself."""
    signing_key: str | None = None
    """Where the key is that signs HTTP requests (HMAC-SHA256 over time and body): `env:NAME` or `file:PATH`."""
    tls: TlsConfig = TlsConfig()
    """Certificates."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds to wait for a connection."""
    max_message_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Size of one message at most, both ways."""
    connections: int = Field(default=1, ge=1)
    """Connections kept open by each rollout worker or router."""
    busy_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds to wait for a free world while the endpoint says that all are taken."""
    keepalive_s: float = Field(default=300.0, ge=10)
    """Seconds between signs of life over gRPC while a call, a world for instance, is open and quiet; without one there
    are none. Servers that are not ours may drop a client that gives them more often than every 300 s."""

    @property
    def scheme(self) -> str:
        """What the address begins with: `grpc`, `https`, `python`, …"""
        return self.address.partition(":")[0]

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @field_validator("address")
    @classmethod
    def _has_a_scheme(cls, address: str) -> str:
        refuse_credentials(address)
        scheme = address.partition(":")[0]
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}:" for name in SCHEMES)
            yours = f"; code of yours is python:{address}" if ".py:" in address else ""
            raise ValueError(f"'{address}' does not begin with {known}{yours}")
        return address

    @field_validator("token", "signing_key")
    @classmethod
    def _is_no_secret(cls, where: str | None) -> str | None:
        if where is not None and not where.startswith(("env:", "file:")):
            raise ValueError("a secret is named, not written: env:NAME or file:PATH")
        return where
