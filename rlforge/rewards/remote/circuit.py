"""Notices that an endpoint is down, holds requests back meanwhile, and lets one through now and then to look."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Literal

from rlforge.errors import DeadlineExceeded, EndpointBroken, EndpointBusy, EndpointRefused, EndpointUnavailable

_FIRST_PROBE_S = 0.25
_LONGEST_PROBE_S = 5.0

State = Literal["closed", "half_open", "open"]


class Circuit:
    """`closed` lets every request through, `open` none, `half_open` waits for the one it let through.

    An endpoint that refuses or has no room is up: only requests that got no sensible answer count against it. Time in
    which nobody wants an answer, while the policy learns for instance, counts neither as an outage nor as waiting.
    """

    def __init__(self, what: str, *, opens_after: int) -> None:
        self._what = what
        self._opens_after = opens_after
        self._failures = 0
        self._down_since: float | None = None
        self._opened_at: float | None = None
        self._next_probe = 0.0
        self._probe_every = _FIRST_PROBE_S
        """Seconds until the next look, doubled by each that was in vain."""
        self._probing = False
        self._changed = asyncio.Event()
        self._open_s = 0.0
        self._wanting = 0
        """How many want an answer now."""
        self._idle_since = monotonic()
        self._idle_s = 0.0
        """Seconds in which nobody wanted one, up to when somebody last began to."""
        self.opened = 0
        """How often it opened."""
        self.answered = 0
        """Requests that showed that the endpoint is up."""
        self.last_fault = ""

    @property
    def state(self) -> State:
        """What a request would meet now."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._probing else "open"

    @property
    def down_s(self) -> float:
        """Seconds since the first request of those in a row that got no sensible answer; 0 when the last one did."""
        return 0.0 if self._down_since is None else self._now() - self._down_since

    @property
    def open_s(self) -> float:
        """Seconds it has been open in all."""
        return self._open_s + (0.0 if self._opened_at is None else self._now() - self._opened_at)

    @contextmanager
    def wanted(self) -> Generator[None]:
        """Within the body somebody wants an answer; every request is made within one."""
        if not self._wanting:
            self._idle_s += monotonic() - self._idle_since
        self._wanting += 1
        try:
            yield
        finally:
            self._wanting -= 1
            self._idle_since = monotonic()

    @asynccontextmanager
    async def request(self, patience_s: float) -> AsyncGenerator[None]:
        """Wait for leave, then watch one request.

        Raises EndpointUnavailable once the endpoint has been down for longer than `patience_s`, but not while another
        request looks whether it is back: that one has a deadline of its own.
        """
        probe = await self._leave(patience_s)
        try:
            yield
        except (EndpointRefused, EndpointBusy):
            self._is_up()
            raise
        except (EndpointUnavailable, EndpointBroken, DeadlineExceeded) as fault:
            self._failed(str(fault))
            raise
        else:
            self._is_up()
        finally:
            if probe:
                self._probing = False
                self._tell()

    async def _leave(self, patience_s: float) -> bool:
        """Wait until a request may go; True when it is the one that looks whether the endpoint is back."""
        while self._opened_at is not None:
            if not self._probing and monotonic() >= self._next_probe:
                self._probing = True
                return True
            left_s = patience_s - self.down_s
            if self._probing:
                await self._change(None)
            elif left_s > 0:
                await self._change(min(left_s, max(0.0, self._next_probe - monotonic())))
            else:
                raise EndpointUnavailable(
                    f"{self._what} has been down for {self.down_s:.0f} s, longer than wait_for_endpoint_s="
                    f"{patience_s:g}; the last fault: {self.last_fault}"
                )
        return False

    async def _change(self, within_s: float | None) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _is_up(self) -> None:
        self.answered += 1
        self._failures, self._down_since = 0, None
        self._probe_every = _FIRST_PROBE_S
        if self._opened_at is not None:
            self._open_s += self._now() - self._opened_at
            self._opened_at = None
            self._tell()

    def _failed(self, fault: str) -> None:
        self.last_fault = fault
        self._failures += 1
        if self._down_since is None:
            self._down_since = self._now()
        if self._opened_at is None and self._failures >= self._opens_after:
            self._opened_at = self._now()
            self.opened += 1
        elif self._probing:
            self._probe_every = min(2 * self._probe_every, _LONGEST_PROBE_S)
        self._next_probe = monotonic() + self._probe_every * (0.5 + random.random())

    def _now(self) -> float:
        """A clock that stands still while nobody wants an answer."""
        return (monotonic() if self._wanting else self._idle_since) - self._idle_s

    def _tell(self) -> None:
        """Wake everybody who waits; whoever waits from now on waits for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
