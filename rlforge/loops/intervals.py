"""How sure an evaluation is: 95 % intervals, and the unbiased estimate of pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: Sequence[bool]) -> Interval:
    """Share of successes with Wilson's score interval (1927), which stays within [0, 1] for few trials, and for none
    or all of them successful. Raises ValueError on no trials.
    """
    trials = len(successes)
    if trials == 0:
        raise ValueError("a share of no trials is not defined")
    share = sum(successes) / trials
    centre = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    half = Z / (1 + Z * Z / trials) * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with the normal interval of its standard error (one degree of freedom removed); a single value has none."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(array.mean())
    half = Z * float(array.std(ddof=1)) / math.sqrt(array.size) if array.size > 1 else 0.0
    return Interval(mean, mean - half, mean + half)


def pass_at_k(successes: Sequence[Sequence[bool]], k: int) -> list[float]:
    """Per task, the chance that k of its n attempts hold a success: 1 − C(n − c, k) / C(n, k) (arXiv:2107.03374).

    Tasks with fewer than k scored attempts are left out.
    """
    counts = [(len(attempts), sum(attempts)) for attempts in successes if len(attempts) >= k]
    return [1.0 - math.comb(n - c, k) / math.comb(n, k) for n, c in counts]
