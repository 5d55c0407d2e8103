"""Which source is drawn from at which position: shares as weighted, spread evenly, known without replaying the past."""

from __future__ import annotations

from collections.abc import Sequence

_RANGE = 2**64
_STRIDE = 0x9E3779B97F4A7C15  # odd and close to range / golden ratio: the most evenly spread sequence of its kind


class Schedule:
    """A weighted choice for each position.

    Position p lands at (stride * p + offset) mod 2**64, and the sources divide that range by their weights. Multiples
    of the golden ratio fill a range evenly (Weyl's equidistribution), so after n positions each source's count differs
    from its share of n by a few draws at most.
    """

    def __init__(self, weights: Sequence[float], offset: int = 0) -> None:
        total = sum(weights)
        edges = [round(_RANGE * (sum(weights[: index + 1]) / total)) for index in range(len(weights))]
        self._edges = [0, *edges[:-1], _RANGE]
        self._offset = offset % _RANGE

    def choice(self, position: int) -> int:
        """Index of the source at a position."""
        place = (_STRIDE * position + self._offset) % _RANGE
        return next(index for index, edge in enumerate(self._edges[1:]) if place < edge)

    def count(self, source: int, position: int) -> int:
        """How often the source is chosen before `position`: exact, in time that hardly grows with the position."""
        return self._below(self._edges[source + 1], position) - self._below(self._edges[source], position)

    def _below(self, edge: int, positions: int) -> int:
        """How many of the first positions land below an edge: x mod m < e adds 1 to floor(x/m) - floor((x-e)/m)."""
        if edge in (0, _RANGE):
            return positions if edge else 0
        floors = _floor_sum(positions, _RANGE, _STRIDE, self._offset)
        shifted = _floor_sum(positions, _RANGE, _STRIDE, self._offset + _RANGE - edge) - positions
        return floors - shifted


def _floor_sum(count: int, modulus: int, slope: int, start: int) -> int:
    """Sum of floor((slope * i + start) / modulus) over i < count, by Euclid's algorithm in O(log modulus)."""
    total = 0
    while True:
        total += (count - 1) * count // 2 * (slope // modulus) + count * (start // modulus)
        slope, start = slope % modulus, start % modulus
        top = slope * count + start
        if top < modulus:
            return total
        count, start, modulus, slope = top // modulus, top % modulus, slope, modulus
