"""Rollout workers: groups come whole, faults are tried again, nothing is waited for without end."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from rlforge.errors import ActorDied, DataError
from rlforge.loops.collect import Collector, GroupPlayer
from rlforge.types import (
    FAULTS,
    Group,
    GroupRequest,
    Message,
    Metrics,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
)


class Plays:
    """An orchestrator whose rollouts end as a function of their key says, after the seconds it says."""

    def __init__(self, end: Callable[[RolloutKey], StopReason], seconds: float = 0.0) -> None:
        self.end = end
        self.seconds = seconds
        self.keys: list[RolloutKey] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, key: RolloutKey, task: Task, sampling: Sampling, seed: int) -> Rollout:
        self.keys.append(key)
        await asyncio.sleep(self.seconds)
        return Rollout(key=key, task=task, seed=seed, turns=(), stop_reason=self.end(key), sampling=sampling)


class Judges:
    """A router that rewards members by their number and leaves faults unscored."""

    async def start(self) -> None: ...

    async def reward(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        fine = {StopReason.COMPLETED}
        return [Reward(value=float(r.key.member) if r.stop_reason in fine else None) for r in rollouts]

    async def metrics(self) -> Metrics:
        return {}

    async def close(self) -> None: ...


def asked(name: str, size: int = 3, deadline_s: float = 5.0) -> GroupRequest:
    task = Task(id=f"t/{name}", messages=(Message.of("user", name),))
    return GroupRequest(task=task, group=name, size=size, sampling=Sampling(), seed=0, deadline_s=deadline_s)


async def test_collector_returns_groups_in_the_order_asked_over_many_workers() -> None:
    workers = [GroupPlayer(Plays(lambda _: StopReason.COMPLETED), Judges()) for _ in range(3)]
    requests = [asked(str(number)) for number in range(7)]
    groups = await Collector(workers).collect(requests)
    assert [group.request.group for group in groups] == [str(number) for number in range(7)]
    assert all(group.rewards == (0.0, 1.0, 2.0) for group in groups)


async def test_two_groups_of_one_name_are_refused_instead_of_given_the_same_rollouts() -> None:
    collector = Collector([GroupPlayer(Plays(lambda _: StopReason.COMPLETED), Judges())])
    with pytest.raises(DataError, match="two groups are called 'a'"):
        await collector.collect([asked("a"), asked("b"), asked("a")])


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_a_fault_is_tried_again_under_the_next_attempt_number(fault: StopReason) -> None:
    plays = Plays(lambda key: fault if key.attempt == 0 else StopReason.COMPLETED)
    (group,) = [group async for group in GroupPlayer(plays, Judges()).collect([asked("a", size=2)])]
    assert [rollout.key.attempt for rollout in group.rollouts] == [1, 1]
    assert group.rewards == (0.0, 1.0)


async def test_a_member_that_hangs_ends_with_timeout_unscored_and_its_group_still_comes() -> None:
    plays = Plays(lambda _: StopReason.COMPLETED, seconds=60.0)
    (group,) = [group async for group in GroupPlayer(plays, Judges()).collect([asked("a", size=2, deadline_s=0.05)])]
    assert [rollout.stop_reason for rollout in group.rollouts] == [StopReason.TIMEOUT] * 2
    assert group.rewards == (None, None)


async def test_a_member_that_cannot_be_played_ends_the_others_and_nothing_runs_on() -> None:
    class Refuses(Plays):
        async def run(self, key: RolloutKey, task: Task, sampling: Sampling, seed: int) -> Rollout:
            if key.member == 2:
                await asyncio.sleep(0.01)
                raise DataError("no prompt")
            return await super().run(key, task, sampling, seed)

    worker = GroupPlayer(Refuses(lambda _: StopReason.COMPLETED, seconds=60.0), Judges())
    with pytest.raises(DataError, match="no prompt"):
        await Collector([worker]).collect([asked("a"), asked("b", size=2)])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_first_worker_that_fails_ends_the_wait_for_all() -> None:
    class Dies(GroupPlayer):
        async def collect(self, requests: Sequence[GroupRequest]):  # type: ignore[override]
            raise ActorDied("rollout worker 1 died")
            yield Group(request=requests[0], rollouts=())

    slow = GroupPlayer(Plays(lambda _: StopReason.COMPLETED, seconds=60.0), Judges())
    workers = [slow, Dies(Plays(lambda _: StopReason.COMPLETED), Judges())]
    async with asyncio.timeout(5):
        with pytest.raises(ActorDied, match="worker 1"):
            await Collector(workers).collect([asked("a"), asked("b")])
    assert asyncio.all_tasks() == {asyncio.current_task()}
