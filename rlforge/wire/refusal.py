"""What cannot travel is refused with our own error, whatever the protobuf library calls it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from rlforge.errors import DataError

Arguments = ParamSpec("Arguments")
Sent = TypeVar("Sent")


def refuses(what: str) -> Callable[[Callable[Arguments, Sent]], Callable[Arguments, Sent]]:
    """Make an encoder raise DataError for a value that no field of `what` can hold.

    That is a negative count, a whole number beyond 32 bits, text that is not Unicode, None where something must be.
    """

    def around(encode: Callable[Arguments, Sent]) -> Callable[Arguments, Sent]:
        @wraps(encode)
        def encoded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Sent:
            try:
                return encode(*args, **kwargs)
            except (TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{what} cannot travel: {error}") from error

        return encoded

    return around
