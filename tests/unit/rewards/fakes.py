"""A scorer that says what a test tells it to, as a customer's own class would be registered: `module:Class`."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from pydantic import Field

from rlforge.errors import ConfigError, EndpointUnavailable
from rlforge.rewards.config import ScorerConfig
from rlforge.types import Score


class ToldScorer:
    """Answers from `says`, reply by reply: a number, or an error kind (retried ones end with `?`)."""

    started: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []
    asked: ClassVar[list[tuple[str, list[str]]]] = []

    class Config(ScorerConfig):
        """What to say."""

        says: dict[str, Any] = Field(default_factory=dict)
        """Reply -> value or list of values by attempt."""
        broken: str = ""
        """How to misbehave: `start`, `raise`, `unreachable`, `cancelled`, `short`, `close`, `hang`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label
        self.calls: dict[str, int] = {}

    async def start(self) -> None:
        if self.config.broken == "start":
            raise ConfigError("cannot start")
        self.started.append(self.name)

    async def score(self, rollouts):
        self.asked.append((self.name, [rollout.text for rollout in rollouts]))
        if self.config.broken == "raise":
            raise ZeroDivisionError("division by zero")
        if self.config.broken == "cancelled":
            (asking := asyncio.ensure_future(asyncio.sleep(1))).cancel()
            await asking
        if self.config.broken == "unreachable":
            raise EndpointUnavailable("nobody is there")
        scores = [self._score(rollout.text) for rollout in rollouts]
        return scores[:-1] if self.config.broken == "short" else scores

    async def close(self) -> None:
        self.closed.append(self.name)
        if self.config.broken == "close":
            raise KeyError("never opened")
        if self.config.broken == "hang":
            await asyncio.sleep(60)

    def _score(self, reply: str) -> Score:
        said = self.config.says.get(reply, 0.0)
        if isinstance(said, list):
            attempt = self.calls.get(reply, 0)
            self.calls[reply] = attempt + 1
            said = said[min(attempt, len(said) - 1)]
        if isinstance(said, str):
            return Score(scorer=self.name, error_kind=said.rstrip("?"), reason="told so", retryable=said.endswith("?"))
        return Score(scorer=self.name, value=float(said))
