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


class TwoArguments(Exception):
    """Pickles, but cannot be made again from that."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class Mute(Exception):
    """Its own text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class OneWay:
    """Pickles, but raises when it is made again."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


class Part:
    """Doubles numbers, raises what it is given, and waits for what it is never told."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.given_up = asyncio.Event()

    async def double(self, number: int) -> Any:
        if number == 13:
            raise ValueError("unlucky")
        return (lambda: number) if number == 14 else 2 * number

    async def fail(self, error: str) -> None:
        raise {"two": TwoArguments("this", "that"), "mute": Mute(), "exit": SystemExit(3), "key": KeyError("x")}[error]

    async def one_way(self, _: object) -> OneWay:
        return OneWay()

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
    names = ("double", "wait", "cancelled", "fail", "one_way")
    return await LineServer({name: getattr(part, name) for name in names}).open("127.0.0.1")


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


@pytest.mark.parametrize(
    ("error", "said"), [("two", "TwoArguments: this: that"), ("mute", "Mute"), ("exit", "SystemExit: 3")]
)
async def test_an_error_that_cannot_travel_is_told_in_words(line: Line, error: str, said: str) -> None:
    answers = await asyncio.gather(line.call("fail", error), line.call("double", 2), return_exceptions=True)
    assert isinstance(answers[0], RlforgeError)
    assert str(answers[0]) == f"fail(): {said}"
    assert answers[1] == await line.call("double", 1) * 2 == 4


async def test_an_error_comes_with_the_lines_it_was_raised_in(line: Line) -> None:
    with pytest.raises(KeyError) as caught:
        await line.call("fail", "key")
    assert "in fail" in caught.value.__notes__[0]


async def test_an_answer_that_cannot_be_read_ends_the_line_with_the_reason(line: Line) -> None:
    calls = line.call("wait", None), line.call("one_way", None)
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, ActorDied)
        assert "an answer of the part cannot be read: ValueError: invalid literal" in str(answer)


async def test_a_call_that_cannot_be_read_ends_the_line_with_the_reason(line: Line, part: Part) -> None:
    waiting = asyncio.ensure_future(line.call("wait", None))
    await asyncio.wait_for(part.waiting.wait(), 5)
    for answer in await asyncio.gather(waiting, line.call("double", OneWay()), return_exceptions=True):
        assert isinstance(answer, ActorDied)
        assert "the part cannot read a call: ValueError: invalid literal" in str(answer)
        assert "must be importable in every part of the run" in str(answer)
    await asyncio.wait_for(part.given_up.wait(), 5)


async def test_a_call_that_is_given_up_ends_on_the_other_side(line: Line, part: Part) -> None:
    call = asyncio.ensure_future(line.call("wait", None))
    await asyncio.wait_for(part.waiting.wait(), 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.01)
    await asyncio.wait_for(part.given_up.wait(), 5)
    assert await line.call("double", 4) == 8


async def test_a_method_that_is_cancelled_there_leaves_nobody_waiting(line: Line) -> None:
    with pytest.raises(ActorDied, match="was cancelled there"):
        await line.call("cancelled", None)


async def test_the_calls_of_a_caller_that_is_gone_end(line: Line, part: Part) -> None:
    call = asyncio.ensure_future(line.call("wait", None))
    await asyncio.wait_for(part.waiting.wait(), 5)
    line.close()
    with pytest.raises(ActorDied, match="the part was closed"):
        await call
    await asyncio.wait_for(part.given_up.wait(), 5)
    with pytest.raises(ActorDied):
        await line.call("double", 1)


async def test_a_line_that_is_closed_stays_closed(line: Line) -> None:
    line.close()
    with pytest.raises(ActorDied, match="the part was closed"):
        await line.call("double", 1)


async def test_a_part_that_reads_no_more_cannot_hold_up_a_close() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1) as server:
        port = server.sockets[0].getsockname()[1]
        line = Line(Address("127.0.0.1", port, b"x" * 32), "the part")
        call = asyncio.ensure_future(line.call("double", b"x" * 50_000_000))
        await asyncio.sleep(0.2)
        line.close()
        with pytest.raises(ActorDied, match="the part was closed"):
            await asyncio.wait_for(call, 5)


async def test_all_who_wait_for_a_connection_wait_for_the_same(address: Address) -> None:
    line = Line(replace(address, port=1), "generator 7")
    told = await asyncio.gather(*(line.call("double", n) for n in range(9)), return_exceptions=True)
    assert len({str(error) for error in told}) == 1
    assert all(isinstance(error, ActorDied) for error in told)


async def test_a_part_that_is_not_there_is_named(address: Address) -> None:
    with pytest.raises(ActorDied, match="generator 7 died"):
        await Line(replace(address, port=1), "generator 7").call("double", 1)


async def test_a_stranger_is_not_answered_and_none_of_his_bytes_are_unpickled(address: Address) -> None:
    stranger = Line(replace(address, token=b"x" * len(address.token)), "the part")
    with pytest.raises(ActorDied):
        await stranger.call("double", 1)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Address("127.0.0.1", 1, b"secret"))
