"""What an endpoint bears: how much a second, how long each takes, and the advice that follows."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from rlforge.checks.properties import Failed
from rlforge.errors import DeadlineExceeded, EndpointError
from rlforge.values import value

_BUSY_S = 0.002
"""Seconds from which on the endpoint's own work outweighs that of the transport."""
_FEW = 0.25
"""Share of the time in which one plays, or asks, alone."""


@value()
class Load:
    """What was measured under load, as training would put it there."""

    at_once: int
    """Worlds, or requests, under way at once."""
    seconds: float
    counts: Mapping[str, int]
    """What was done, by what it is: `worlds`, `steps`, `requests`, `items`."""
    step_s: tuple[float, ...]
    """Seconds of each step, or request."""

    @property
    def p50_s(self) -> float:
        """Median seconds of a step, or request."""
        return quantile(self.step_s, 0.5)

    @property
    def p99_s(self) -> float:
        """Seconds that one in a hundred exceeds."""
        return quantile(self.step_s, 0.99)

    def per_s(self, what: str) -> float:
        """How many a second."""
        return self.counts.get(what, 0) / self.seconds if self.seconds else 0.0

    def told(self) -> str:
        """In one line."""
        rates = ", ".join(f"{self.per_s(what):.4g} {what}/s" for what in self.counts)
        return f"{self.at_once} at once: {rates}, p50 {milliseconds(self.p50_s)}, p99 {milliseconds(self.p99_s)}"

    def as_numbers(self) -> dict[str, float]:
        """For JSON."""
        rates = {f"{what}_per_s": self.per_s(what) for what in self.counts}
        return {"at_once": self.at_once, "seconds": self.seconds, **rates, "p50_s": self.p50_s, "p99_s": self.p99_s}


async def alone_and_together(
    measured: Callable[[int, float], Awaitable[Load]], loads: list[Load], *, at_once: int, seconds: float
) -> str:
    """Measure one alone, then `at_once` together, into `loads`; tells both. Raises Failed at any fault."""
    loads[:] = []
    try:
        loads.append(await measured(1, seconds * _FEW))
        loads.append(await measured(at_once, seconds * (1 - _FEW)))
    except (EndpointError, DeadlineExceeded) as end:
        raise Failed(f"under load: {end}") from end
    return "; ".join(load.told() for load in loads)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def milliseconds(seconds: float) -> str:
    """For a person."""
    return f"{seconds * 1000:.3g} ms"


def advice_on(loads: Sequence[Load], what: str, worlds: str) -> list[str]:
    """What a few measured at once, and one alone, say about size: `what` (steps) a second, of `worlds`, which is also
    the option that says how many."""
    if len(loads) < 2 or not all(load.per_s(what) for load in loads):
        return []
    alone, many = loads
    gain = many.per_s(what) / alone.per_s(what)
    told = [
        f"{many.at_once} {worlds} at once make {many.per_s(what):.4g} {what}/s, {gain:.2g} times as many as one alone; "
        f"about {max(1, round(gain))} at once keep it busy, more wait for one another"
        if gain < 0.7 * many.at_once
        else f"{many.at_once} {worlds} at once make {gain:.2g} times as many {what}/s as one: try more with --{worlds}"
    ]
    if many.at_once >= 2 and gain < 1.5 and alone.p50_s > _BUSY_S:
        told.append(
            f"a second one hardly helps although each takes {milliseconds(alone.p50_s)}: they take turns. "
            "Serve from more processes (`processes=` of rlforge.serve), or let go of the lock"
        )
    return told
