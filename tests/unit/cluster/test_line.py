"""Calls of a part in another process: answers, errors, giving up, and the end of either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rlforge.cluster.line import Line
from rlforge.cluster.line_server import LineServer
from rlforge.cluster.messages import MOST, Address
from rlforge.errors import ActorDied, RlforgeError

pytestmark = pytest.mark.timeout(30)


class Part:
    """Doubles numbers, refuses 13, and waits for what it is never told."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.given_up = asyncio.Event()

    async def double(self, number: int) -> Any:
        if number == 13:
            raise ValueError("unlucky")
        return (lambda: number) if number == 14 else 2 * number

    async def wait(self, _: object) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()

    async def cancelled(self, _: object) -> None:
        raise asyncio.CancelledError


@pytest.fixture
async def part() -> Part:
    return Part()


@pytest.fixture
async def address(part: Part) -> Address:
    methods = {"double": part.double, "wait": part.wait, "cancelled": part.cancelled}
    return await LineServer(methods).open("127.0.0.1")


@pytest.fixture
async def line(address: Address) -> AsyncIterator[Line]:
    line = Line(address, "the part")
    yield line
    line.close()
    await asyncio.sleep(0.01)


async def test_many_calls_each_get_their_own_answer(line: Line) -> None:
    numbers = range(100, 100 + 2 * MOST + 3)
    assert await asyncio.gather(*(line.call("double", number) for number in numbers)) == [2 * n for n in numbers]


async def test_an_error_reaches_the_call_it_belongs_to_and_no_other(line: Line) -> None:
    answers = await asyncio.gather(*(line.call("double", n) for n in (1, 13, 2)), return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 4)
    assert isinstance(answers[1], ValueError)


async def test_what_cannot_be_pickled_is_told_on_either_side_and_holds_nobody_up(line: Line) -> None:
    calls = line.call("double", 1), line.call("double", lambda: 2), line.call("double", 14)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[0] == 2
    assert "sending a function to the part for double()" in str(answers[1])
    assert "sending back a function" in str(answers[2])
    assert all(isinstance(answer, RlforgeError) for answer in answers[1:])


async def test_a_call_that_is_given_up_ends_on_the_other_side(line: Line, part: Part) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.call("wait", None), 0.05)
    await asyncio.wait_for(part.given_up.wait(), 5)
    assert await line.call("double", 4) == 8


async def test_a_method_that_is_cancelled_there_leaves_nobody_waiting(line: Line) -> None:
    with pytest.raises(ActorDied, match="was cancelled there"):
        await line.call("cancelled", None)


async def test_the_calls_of_a_caller_that_is_gone_end(line: Line, part: Part) -> None:
    call = asyncio.ensure_future(line.call("wait", None))
    await asyncio.wait_for(part.waiting.wait(), 5)
    line.close()
    with pytest.raises(ActorDied, match="the part died: the connection to it is closed"):
        await call
    await asyncio.wait_for(part.given_up.wait(), 5)
    with pytest.raises(ActorDied):
        await line.call("double", 1)


async def test_a_part_that_is_not_there_is_named(address: Address) -> None:
    with pytest.raises(ActorDied, match="generator 7 died"):
        await Line(replace(address, port=1), "generator 7").call("double", 1)


async def test_a_stranger_is_not_answered_and_none_of_his_bytes_are_unpickled(address: Address) -> None:
    stranger = Line(replace(address, token=b"x" * len(address.token)), "the part")
    with pytest.raises(ActorDied):
        await stranger.call("double", 1)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Address("127.0.0.1", 1, b"secret"))
