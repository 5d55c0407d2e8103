"""Asks an endpoint that may be down or busy: waits for it, asks again on the faults that pass, gives up in time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from pydantic import Field

from rlforge.errors import DeadlineExceeded, EndpointBusy, EndpointError, EndpointRefused, EndpointUnavailable
from rlforge.rewards.config import ScorerConfig
from rlforge.rewards.remote.circuit import Circuit
from rlforge.types import Metrics, Score

_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_DROPS = 8
"""Of one request, while the endpoint answers others: then it is this request that it cannot bear."""

Answer = TypeVar("Answer")


class PatientConfig(ScorerConfig):
    """What scorers that ask an endpoint have in common."""

    timeout_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Seconds one request may take, however much it asks."""
    attempts: int = Field(4, ge=1)
    """How often a rollout is tried in all when a request timed out, broke, or its answer was left out."""
    concurrency: int = Field(8, ge=1)
    """Requests under way at once, at most."""
    wait_for_endpoint_s: float = Field(600.0, ge=0, allow_inf_nan=False)
    """Seconds to wait for an endpoint that is down or busy, before its rollouts are left unscored. Keep it well below
    `cluster.step_deadline_s`."""
    opens_after: int = Field(5, ge=1)
    """Requests in a row without a sensible answer, after which one at a time goes out to see whether it is back."""

    @property
    def patience_s(self) -> float:
        """Seconds that a call may wait beyond its time-outs."""
        return self.wait_for_endpoint_s


class Patience:
    """One endpoint's circuit, and the counters of what was asked of it."""

    def __init__(self, config: PatientConfig) -> None:
        self._config = config
        self.circuit = Circuit(f"the endpoint of scorer '{config.label}'", opens_after=config.opens_after)
        self.counted: Counter[str] = Counter({"requests": 0, "retries": 0, "ignored_answers": 0})

    async def ask(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to one request, sent again while the endpoint is down or busy; when, a busy one may say.

        Raises EndpointUnavailable or EndpointBusy when it stays so, and any other fault at once.
        """
        with self.circuit.wanted():
            return await self._asked(request)

    async def _asked(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        began, tries, drops, answered = monotonic(), 0, 0, self.circuit.answered
        while True:
            advised_s = 0.0
            try:
                async with self.circuit.request(self._config.wait_for_endpoint_s):
                    self.counted["requests"] += 1
                    self.counted["retries"] += tries > 0
                    return await request()
            except EndpointBusy as fault:
                left_s = self._config.wait_for_endpoint_s - (monotonic() - began)
                if left_s <= 0:
                    raise
                advised_s = min(fault.retry_after_s, left_s)
            except EndpointUnavailable as fault:
                drops += self.circuit.answered > answered  # somebody else got an answer since our last try
                answered = self.circuit.answered
                if drops >= _DROPS or self.circuit.down_s >= self._config.wait_for_endpoint_s:
                    raise EndpointUnavailable(f"{fault} ({tries + 1} tries in {monotonic() - began:.0f} s)") from fault
            tries += 1
            backoff_s = min(_BACKOFF_S * 2 ** min(tries, 10), _LONGEST_BACKOFF_S) * (0.5 + random.random())
            await asyncio.sleep(advised_s + backoff_s)  # all who were told the same come back at different times

    def metrics(self) -> Metrics:
        """Totals since the start, `scorer_<name>/…`."""
        totals = {**self.counted, "outages": self.circuit.opened, "outage_s": self.circuit.open_s}
        return {f"scorer_{self._config.label}/{key}": float(total) for key, total in totals.items()}


def unscored(label: str, fault: EndpointError | DeadlineExceeded, seconds: float = 0.0) -> Score:
    """What a fault means for a rollout: unscored, and tried again where another attempt may fare better."""
    kind, retryable = next((kind, again) for known, kind, again in _KINDS if isinstance(fault, known))
    return Score(scorer=label, error_kind=kind, reason=str(fault), retryable=retryable, seconds=seconds)


_KINDS: tuple[tuple[type[Exception], str, bool], ...] = (
    (DeadlineExceeded, "timeout", True),
    (EndpointRefused, "refused", False),
    (EndpointUnavailable, "unavailable", False),  # it was waited for already
    (EndpointBusy, "busy", False),
    (EndpointError, "broken", True),
)
