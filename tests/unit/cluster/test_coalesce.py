"""Calls of one moment travel together; each caller gets its own answer or its own error."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rlforge.cluster.coalesce import MOST, Coalescer, as_they_finish, in_batches


class Doubles:
    """Doubles numbers, refuses 13, and remembers which travelled together."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []

    async def __call__(self, items: list[int]) -> AsyncIterator[list[tuple[int, int | Exception]]]:
        self.sent.append(items)
        for index, item in enumerate(items):
            yield [(index, ValueError("unlucky") if item == 13 else 2 * item)]


async def test_calls_of_one_moment_travel_together() -> None:
    doubles = Doubles()
    calls: Coalescer[int, int] = Coalescer(doubles)
    assert await asyncio.gather(*(calls.call(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert await calls.call(7) == 14
    assert doubles.sent == [[0, 1, 2, 3, 4], [7]]


async def test_a_large_burst_travels_in_several_messages() -> None:
    doubles = Doubles()
    calls: Coalescer[int, int] = Coalescer(doubles)
    numbers = range(100, 100 + 2 * MOST + 3)
    assert await asyncio.gather(*map(calls.call, numbers)) == [2 * number for number in numbers]
    assert [len(items) for items in doubles.sent] == [MOST, MOST, 3]


async def test_an_error_reaches_the_call_it_belongs_to_and_no_other() -> None:
    calls: Coalescer[int, int] = Coalescer(Doubles())
    answers = await asyncio.gather(calls.call(1), calls.call(13), calls.call(2), return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 4)
    assert isinstance(answers[1], ValueError)


async def test_a_side_that_ends_early_leaves_nobody_waiting() -> None:
    async def silent(items: list[int]) -> AsyncIterator[list[tuple[int, int | Exception]]]:
        yield [(0, items[0])]

    calls: Coalescer[int, int] = Coalescer(silent)
    answers = await asyncio.wait_for(asyncio.gather(calls.call(1), calls.call(2), return_exceptions=True), 5)
    assert answers[0] == 1
    assert isinstance(answers[1], RuntimeError)


async def test_results_come_as_they_finish_and_errors_as_values() -> None:
    async def after(seconds: float, fails: bool = False) -> float:
        await asyncio.sleep(seconds)
        if fails:
            raise ValueError("late")
        return seconds

    order = [pair async for pair in as_they_finish([after(0.05), after(0.0), after(0.02, fails=True)])]
    assert [index for index, _ in order] == [1, 2, 0]
    assert isinstance(order[1][1], ValueError)


async def test_batches_hold_all_items_and_an_error_comes_after_them() -> None:
    async def breaks() -> AsyncIterator[int]:
        for number in range(4):
            yield number
        raise ValueError("then this")

    seen: list[int] = []

    async def read() -> None:
        async for batch in in_batches(breaks()):
            seen.extend(batch)

    with pytest.raises(ValueError, match="then this"):
        await read()
    assert seen == [0, 1, 2, 3]
