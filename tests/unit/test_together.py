"""Several pieces of work as one: what fails, what is ended, what goes on."""

from __future__ import annotations

import asyncio

import pytest

from rlforge.together import all_or_none, each_to_its_end, end


async def _given(value: int, ended: list[int]) -> int:
    await asyncio.sleep(0)
    ended.append(value)
    return value


async def _failing() -> int:
    raise KeyError("no")


async def test_what_all_give_comes_in_order() -> None:
    tasks = [asyncio.create_task(_given(value, [])) for value in (3, 1, 2)]
    assert await all_or_none(tasks) == [3, 1, 2]
    assert await each_to_its_end(_given(value, []) for value in (3, 1, 2)) == [3, 1, 2]


async def test_when_one_fails_the_others_are_ended_or_go_on() -> None:
    waiting = asyncio.create_task(asyncio.Event().wait())
    with pytest.raises(KeyError):
        await all_or_none([waiting, asyncio.create_task(_failing())])
    assert waiting.cancelled()
    ended: list[int] = []
    with pytest.raises(KeyError):
        await each_to_its_end([_failing(), _given(1, ended)])
    assert ended == [1]


async def test_ending_waits_until_they_have_freed_what_they_hold() -> None:
    freed: list[str] = []

    async def holding() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            freed.append("place")

    held = asyncio.create_task(holding())
    await asyncio.sleep(0)
    await end([held])
    assert freed == ["place"]
