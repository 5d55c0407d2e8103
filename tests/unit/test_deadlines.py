"""Waits end in time, long ones a little late, and a cancelling that is not theirs passes through."""

import asyncio

import pytest

from rlforge import deadlines
from rlforge.deadlines import deadline
from rlforge.errors import DeadlineExceeded


async def test_a_wait_that_is_too_long_says_what_was_waited_for() -> None:
    with pytest.raises(DeadlineExceeded, match=r"waited 0\.01 s for a letter; giving up"):
        async with deadline(0.01, lambda: "a letter"):
            await asyncio.sleep(60)
    await asyncio.sleep(0)  # nothing of the cancelling is left


async def test_long_waits_share_a_timer_and_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_LONG_S", 0.05)
    monkeypatch.setattr(deadlines, "_LOOK_S", 0.02)

    async def wait(seconds: float) -> str:
        try:
            async with deadline(seconds, "a letter"):
                await asyncio.sleep(0.4)
        except DeadlineExceeded:
            return "late"
        return "in time"

    assert await asyncio.gather(*map(wait, [0.05, 60, 0.1, 60])) == ["late", "in time", "late", "in time"]
    assert await wait(0.05) == "late"


async def test_a_wait_that_has_ended_is_never_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_LONG_S", 0.02)
    monkeypatch.setattr(deadlines, "_LOOK_S", 0.01)
    for seconds in (0.01, 0.02):
        async with deadline(seconds, "nothing"):
            pass
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("seconds", [5.0, 60.0])
async def test_being_cancelled_is_no_deadline(seconds: float) -> None:
    async def wait() -> None:
        async with deadline(seconds, "a letter"):
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_inner_of_two_waits_is_the_one_that_tells() -> None:
    with pytest.raises(DeadlineExceeded, match="the inner"):
        async with deadline(60, "the outer"), deadline(0.01, "the inner"):
            await asyncio.sleep(60)
