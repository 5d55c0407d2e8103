"""The version of the protocol that this code speaks."""

from __future__ import annotations

from rlforge.errors import EndpointRefused

PROTOCOL_VERSION = 1


def refuse_other_protocols(version: int, who: str) -> None:
    """Raises EndpointRefused when `who` speaks another protocol."""
    if version != PROTOCOL_VERSION:
        raise EndpointRefused(
            f"{who} speaks protocol version {version}, this rlforge speaks {PROTOCOL_VERSION}; "
            "its Describe must answer protocol_version, and both sides must have the same one"
        )
