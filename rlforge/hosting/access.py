"""Who may ask: certificates, bearer tokens, signed requests."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping

from rlforge.config import BaseConfig
from rlforge.hosting.faults import NotAllowed
from rlforge.transports.secrets import Secret
from rlforge.transports.signing import SIGNATURE, TIMESTAMP, signature

WINDOW_S = 300.0
"""Seconds by which the time of a signed request may differ from ours."""


class ServerTls(BaseConfig):
    """Certificates of a server; all are PEM files."""

    certificate: str
    """The server's certificate, with what leads from it to its authority."""
    key: str
    """Key of the certificate."""
    client_ca: str | None = None
    """Authorities that must have signed the certificate of whoever asks (mTLS); unset: no certificate is asked for."""


class Access:
    """Lets in who has the token and signs with the key; with neither, everybody."""

    def __init__(self, token: Secret | None = None, signing_key: Secret | None = None) -> None:
        self._expected = f"Bearer {token.reveal()}".encode() if token else None
        self._signing_key = signing_key

    @property
    def open(self) -> bool:
        """Whether everybody may ask."""
        return not (self.asks_for_token or self.asks_for_signature)

    @property
    def asks_for_token(self) -> bool:
        """Whether a request needs the bearer token."""
        return self._expected is not None

    @property
    def asks_for_signature(self) -> bool:
        """Whether a request must be signed."""
        return self._signing_key is not None

    def check_token(self, authorization: str | bytes) -> None:
        """Raises NotAllowed unless this is the bearer token, comparing in constant time."""
        given = authorization.encode() if isinstance(authorization, str) else authorization
        if self._expected is not None and not hmac.compare_digest(given, self._expected):
            raise NotAllowed("the bearer token is missing or wrong: send `authorization: Bearer <token>`")

    def check_signature(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raises NotAllowed unless the request is signed with the key, at a time near ours."""
        if self._signing_key is None:
            return
        said = headers.get(TIMESTAMP, "")
        if not said.isdigit() or abs(time.time() - int(said)) > WINDOW_S:
            raise NotAllowed(f"{TIMESTAMP} must hold the time in seconds, at most {WINDOW_S:g} s from the server's")
        expected = signature(self._signing_key, said, body)
        if not hmac.compare_digest(headers.get(SIGNATURE, "").encode(), expected.encode()):
            raise NotAllowed(f"{SIGNATURE} is missing or wrong")
