"""PEM files: certificates and their keys."""

from __future__ import annotations

from pathlib import Path

from rlforge.errors import ConfigError


def read_pem(path: str) -> bytes:
    """The content of a PEM file. Raises ConfigError when it cannot be read."""
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"tls: cannot read '{path}': {error.strerror}") from error
