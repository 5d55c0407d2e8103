"""What a customer's function returned or raised, as an outcome: the fields of a Score."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias, cast

from rlforge.errors import ExtensionError, RlforgeError

Outcome: TypeAlias = dict[str, Any]
"""`value` and `components` of a scored rollout, or `error_kind`, `reason` and `retryable` of an unscored one."""

PASSING = (ConnectionError, TimeoutError)
"""Exceptions that another attempt may not meet again: the function asked a service that did not answer."""


def as_outcome(result: object) -> Outcome:
    """A number is the value; a mapping holds components, and its `reward`, or else their sum, is the value.

    None declines. Anything else is malformed: a text, a number that is not finite, an empty mapping.
    """
    if result is None:
        return unscored("declined", "the function returned None")
    if isinstance(result, float | int) or not isinstance(result, Mapping):
        value = _number(result)
        return _malformed(result) if value is None else {"value": value, "components": {}}
    given = cast(Mapping[object, object], result)
    components = {str(name): _number(part) for name, part in given.items()}
    if not components or None in components.values():
        return _malformed(result)
    numbers = cast(dict[str, float], components)
    value = numbers.pop("reward") if "reward" in numbers else math.fsum(numbers.values())
    return {"value": value, "components": numbers} if math.isfinite(value) else _malformed(result)


def as_outcomes(result: object, count: int) -> list[Outcome]:
    """Outcomes of a function that judges a batch: one result for each rollout, in order."""
    if isinstance(result, Sequence) and not isinstance(result, str | bytes) and len(cast(Any, result)) == count:
        return [as_outcome(item) for item in cast(Sequence[object], result)]
    length = f"{len(cast(Any, result))} results" if isinstance(result, Sequence) else repr(result)[:200]
    why = f"the function was given {count} rollouts and returned {length}; it must return a list of {count}"
    return [unscored("malformed", why)] * count


def unscored(kind: str, reason: str, *, retryable: bool = False) -> Outcome:
    """An outcome without a value."""
    return {"error_kind": kind, "reason": reason, "retryable": retryable, "components": {}}


def raised(error: BaseException, source: str) -> Outcome:
    """The outcome of what came out of a function defined in file `source`, whether or not `boundary()` wrapped it."""
    if isinstance(error, ExtensionError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MemoryError):
        return unscored("memory", f"{describe(error, source)}; the limit is memory_bytes")
    return unscored("exception", describe(error, source), retryable=isinstance(error, PASSING))


def describe(error: BaseException, source: str) -> str:
    """The exception with the line of the customer's file it passed through last, or else where it was raised."""
    if isinstance(error, RlforgeError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename == source] or frames
    where = f" ({theirs[-1].filename}:{theirs[-1].lineno} in {theirs[-1].name})" if theirs else ""
    return f"{type(error).__name__}: {error}{where}"


def _number(value: object) -> float | None:
    """A finite float from any kind of number, numpy and torch scalars included; None from anything else."""
    if not isinstance(value, float | int | Real):  # the first two are quick to tell
        value = _item(value)
    try:
        return float(value) if isinstance(value, float | int | Real) and math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None


def _item(value: object) -> object:
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
    return cast(Any, value).item() if is_scalar else None


def _malformed(result: object) -> Outcome:
    shown = repr(result)
    shown = shown if len(shown) <= 200 else shown[:200] + "…"
    return unscored(
        "malformed", f"the function returned {shown}; it must return a finite number, a dict of them or None"
    )
