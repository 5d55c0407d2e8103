"""Where an endpoint is, and what it takes to be let in."""

from __future__ import annotations

from dataclasses import field, replace
from urllib.parse import urlsplit

from rlforge.errors import ConfigError
from rlforge.transports.certificates import read_pem
from rlforge.transports.config import EndpointConfig
from rlforge.transports.secrets import Secret, read_secret
from rlforge.values import value


@value()
class Place:
    """An address taken apart, secrets and certificates read."""

    scheme: str
    host: str
    port: int
    server_name: str
    """Name expected in the certificate."""
    patience_s: float
    """Seconds to wait for any one answer."""
    token: str | None = field(default=None, repr=False)
    signing_key: Secret | None = None
    ca: str | None = None
    """Files with certificates."""
    certificate: str | None = None
    key: str | None = None

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def authority(self) -> str:
        """Host and port, as in an address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def with_token(self, token: str | None) -> Place:
        """The same place, asked for with another token or with none."""
        return replace(self, token=token)

    def through(self, port: int) -> Place:
        """The same endpoint, reached through a port of this machine."""
        return replace(self, host="127.0.0.1", port=port)


def place_of(config: EndpointConfig, patience_s: float) -> Place:
    """Take the address apart and read what it needs. Raises ConfigError."""
    parts = urlsplit(config.address)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    try:
        port = parts.port or default
    except ValueError as error:
        raise ConfigError(f"'{config.address}' has a port that is no number: {error}") from error
    if not parts.hostname or port is None:
        raise ConfigError(f"'{config.address}' is no address; write {parts.scheme}://host:port")
    token = read_secret(config.token, "token of the endpoint")
    key = read_secret(config.signing_key, "signing key of the endpoint")
    for file in filter(None, (config.tls.ca, config.tls.certificate, config.tls.key)):
        read_pem(file)  # says which one cannot be read
    return Place(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        server_name=config.tls.server_name or parts.hostname,
        token=token.reveal() if token else None,
        patience_s=patience_s,
        signing_key=key,
        ca=config.tls.ca,
        certificate=config.tls.certificate,
        key=config.tls.key,
    )
