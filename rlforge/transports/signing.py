"""Signed HTTP requests: HMAC-SHA256 with a shared key over the time and the body."""

from __future__ import annotations

import hashlib
import hmac

from rlforge.transports.secrets import Secret

TIMESTAMP = "x-rlforge-timestamp"
"""Header with the time of the request: whole seconds since 1970, decimal."""
SIGNATURE = "x-rlforge-signature"
"""Header with `v1=` and the signature in hexadecimal."""


def signature(key: Secret, timestamp: str, body: bytes) -> str:
    """`v1=` and HMAC-SHA256 over the timestamp, a full stop and the bytes of the body, in hexadecimal."""
    signed = hmac.new(key.reveal().encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={signed.hexdigest()}"
