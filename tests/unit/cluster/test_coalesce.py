"""Calls of one moment are asked together; each caller gets its own outcome, and an error is everybody's."""

import asyncio

import pytest

from rlforge.cluster.coalesce import Coalescer
from rlforge.errors import ActorDied


class Doubles:
    """Doubles numbers, refuses lists with 13 in them, and remembers which came together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def __call__(self, items: list[int]) -> list[int]:
        self.asked.append(items)
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items if item != 14]


async def test_calls_of_one_moment_are_asked_together() -> None:
    doubles = Doubles()
    calls: Coalescer[int, int] = Coalescer(doubles)
    assert await asyncio.gather(*(calls.call(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert await calls.call(7) == 14
    assert doubles.asked == [[0, 1, 2, 3, 4], [7]]


@pytest.mark.parametrize("wrong", [13, 14])
async def test_an_error_and_an_answer_too_few_leave_nobody_waiting(wrong: int) -> None:
    calls: Coalescer[int, int] = Coalescer(Doubles())
    answers = await asyncio.wait_for(asyncio.gather(calls.call(1), calls.call(wrong), return_exceptions=True), 5)
    assert isinstance(answers[-1], ValueError)
    assert await calls.call(3) == 6


async def test_asking_that_is_cancelled_leaves_nobody_waiting() -> None:
    async def cancelled(items: list[int]) -> list[int]:
        raise asyncio.CancelledError

    calls: Coalescer[int, int] = Coalescer(cancelled)
    with pytest.raises(ActorDied, match="was cancelled there"):
        await asyncio.wait_for(calls.call(1), 5)


async def test_a_caller_that_gave_up_takes_nothing_from_the_others() -> None:
    calls: Coalescer[int, int] = Coalescer(Doubles())
    first, second = asyncio.ensure_future(calls.call(1)), asyncio.ensure_future(calls.call(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 4
