"""Shuffling without memory: a keyed permutation of 0..n-1 that answers for one place at a time."""

from __future__ import annotations

_MASK = 2**64 - 1
_ROUNDS = 6


def permute(index: int, size: int, seed: int) -> int:
    """Where `index` goes under the permutation of range(size) that `seed` keys; every seed another one.

    A Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002). Integers only, so it is the same on every machine and library version.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    place = _feistel(index, half, seed)
    while place >= size:  # at most 4 values share the way back inside, on average
        place = _feistel(place, half, seed)
    return place


def _feistel(value: int, half: int, seed: int) -> int:
    low = (1 << half) - 1
    left, right = value >> half, value & low
    for number in range(_ROUNDS):
        left, right = right, left ^ (_mix(right ^ _mix(seed ^ _mix(number))) & low)
    return left << half | right


def _mix(value: int) -> int:
    """The finalizer of SplitMix64: every input bit reaches every output bit."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31
