"""A world whose reward can be told from the replies alone, for tests of what comes between it and a rollout."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import ClassVar

from rlforge.types import FAULTS, Rollout, StopReason

TURNS = 3


class Adding:
    """Adds up what every reply is worth, and gives the sum at the end: a step lost or played twice is seen in it."""

    living: ClassVar[set[int]] = set()
    """Worlds that were started and not yet closed."""
    steps = 0
    meanwhile: Callable[[int], None] = staticmethod(lambda _: None)
    """Called with the number of steps that all worlds have taken, at each of them."""

    def reset(self, task, seed):
        self.total, self.turns = 0.0, 0
        Adding.living.add(id(self))
        return "say something"

    async def step(self, action):
        Adding.steps += 1
        Adding.meanwhile(Adding.steps)
        self.total += worth(action)
        self.turns += 1
        over = self.turns == TURNS
        return f"after {self.turns}", self.total if over else 0.0, over, False, {}

    def close(self):
        Adding.living.discard(id(self))


class Breaks(Adding):
    """Breaks at three steps in ten."""

    async def step(self, action):
        if Adding.steps % 10 in (2, 5, 8):
            Adding.steps += 1
            raise RuntimeError("a wheel came off")
        return await super().step(action)


def worth(reply: str) -> float:
    """What a reply adds."""
    return float(1 + zlib.crc32(reply.encode("utf-8", "replace")) % 1000)


def assert_each_once_and_none_wrong(rollouts: Iterable[Rollout], wanted: Iterable[tuple[str, int]]) -> int:
    """Every (group, member) is there once; it ended rightly with its own sum, or by a fault and unscored.

    How many were scored.
    """
    rollouts = list(rollouts)
    assert Counter((one.key.group, one.key.member) for one in rollouts) == Counter(wanted)
    scored = [one for one in rollouts if one.reward is not None and one.reward.value is not None]
    for one in rollouts:
        assert (one in scored) != (one.stop_reason in FAULTS), (one.stop_reason, one.error, one.reward)
    for one in scored:
        assert one.stop_reason == StopReason.COMPLETED
        shown = [message.text for turn in one.turns for message in turn.observation]
        assert shown == [f"after {number + 1}" for number in range(TURNS)]
        assert one.reward
        assert one.reward.value == sum(worth(turn.message.text) for turn in one.turns)
    return len(scored)
