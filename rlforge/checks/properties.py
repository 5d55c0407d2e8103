"""A property of an endpoint, what came of examining it, and the runner that examines one after the other."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from rlforge.checks.fault import Fault
from rlforge.deadlines import deadline
from rlforge.errors import ConfigError, RlforgeError
from rlforge.values import value

Case = TypeVar("Case")


class Outcome(StrEnum):
    """What examining a property comes to."""

    PASSED = "passed"
    WARNED = "warned"
    """It holds, or nothing forbids that it does not, but somebody should look."""
    SKIPPED = "skipped"
    """It could not be examined; that says nothing about the endpoint."""
    FAILED = "failed"


class Failed(Exception):
    """The endpoint lacks the property; the message says what it did instead."""


class Warned(Exception):
    """Worth a look; the message says what was seen."""


class Skipped(Exception):
    """The property cannot be examined here; the message says what is missing."""


class Property(Generic[Case]):
    """One thing that an endpoint must do or be."""

    def __init__(
        self, name: str, examine: Callable[[Case], Awaitable[str]], *, why: str, remedy: str, limit_s: float = 60.0
    ) -> None:
        self.name = name
        self.examine = examine
        """Returns what was seen; raises Failed, Warned or Skipped."""
        self.why = why
        """What goes wrong in training where it does not hold."""
        self.remedy = remedy
        """What to do about it in the endpoint."""
        self.limit_s = limit_s
        """Seconds the examination may take in all."""


@value()
class Finding:
    """What came of one property."""

    name: str
    outcome: Outcome
    told: str
    """What was seen."""
    why: str
    remedy: str
    seconds: float


def chosen(properties: Sequence[Property[Case]], containing: str | None) -> Sequence[Property[Case]]:
    """Those whose names contain a text; all for None. Raises ConfigError when there are none."""
    some = [each for each in properties if containing is None or containing in each.name]
    if not some:
        names = [each.name for each in properties]
        raise ConfigError(f"no property is named like '{containing}'. Known: {', '.join(names)}")
    return some


async def examine(properties: Sequence[Property[Case]], case: Case) -> list[Finding]:
    """Examine every property in its order; one that fails does not stop the next."""
    return [await _examine(each, case) for each in properties]


async def _examine(each: Property[Case], case: Case) -> Finding:
    began = time.perf_counter()
    outcome, told = await _outcome(each, case)
    seconds = time.perf_counter() - began
    return Finding(name=each.name, outcome=outcome, told=told, why=each.why, remedy=each.remedy, seconds=seconds)


async def _outcome(each: Property[Case], case: Case) -> tuple[Outcome, str]:
    try:
        async with deadline(each.limit_s, f"'{each.name}' to be examined"):
            return Outcome.PASSED, await each.examine(case)
    except Warned as seen:
        return Outcome.WARNED, str(seen)
    except Skipped as missing:
        return Outcome.SKIPPED, str(missing)
    except (Failed, Fault, RlforgeError) as failure:
        return Outcome.FAILED, str(failure)
