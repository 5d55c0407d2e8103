"""Several pieces of asyncio work as one: ended, all or none, each to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar

Given = TypeVar("Given")


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel those that still run, and wait until they have freed what they hold."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def all_or_none(tasks: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """What all of them give, in order. When one fails, or we are cancelled, the others are ended first."""
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await end(tasks)
        raise


async def each_to_its_end(doing: Iterable[Awaitable[Given]]) -> list[Given]:
    """What all of them give, in order. When some fail, the others go on; then the first error is raised."""
    outcomes = await asyncio.gather(*doing, return_exceptions=True)
    given: list[Given] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        given.append(outcome)
    return given
