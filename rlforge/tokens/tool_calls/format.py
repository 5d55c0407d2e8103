"""What a tool-call format does: find the calls in a reply."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from rlforge.errors import RlforgeError
from rlforge.types import ToolCall


class UnreadableToolCall(RlforgeError):
    """A reply begins a tool call that makes no sense; the message tells the model what to do instead."""


class ReadReply(NamedTuple):
    """A reply taken apart."""

    text: str
    """What it says beside its calls."""
    calls: tuple[ToolCall, ...]


class ToolFormat(Protocol):
    """One way of writing tool calls; made without arguments."""

    def read(self, reply: str, turn: int) -> ReadReply:
        """Calls in their order, with ids that are unique in the rollout of which this is turn `turn`.

        Raises UnreadableToolCall when any call of the reply cannot be read, or holds what is no Unicode text: then none
        of them is made.
        """
        ...
