"""`score`: scored rollouts a second through the router to a gRPC endpoint, against a bare `grpc.aio` client.

Both ask the do-nothing endpoint in a process of its own, in batches of the same size with as many under way at once.
The bare client stands in `bare_scores`. Both play in turn, so that noise of the machine hits both.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio

from rlforge.bench.heap import settled_heap
from rlforge.bench.nothing import SCORE, serving_nothing
from rlforge.bench.runner import BenchResult
from rlforge.errors import EndpointBroken
from rlforge.rewards.router import Router
from rlforge.types import Completion, FinishReason, Message, Rollout, RolloutKey, StopReason, Task, Turn
from rlforge.wire.pb import reward_pb2, types_pb2

ROLLOUTS = 2048
BATCH = 32
UNDER_WAY = 8
TOKENS = 64
REPEATS = 9


def run() -> BenchResult:
    """Value: rollouts a second when the router gets them all at once; beside it, each in a call of its own."""
    with serving_nothing() as address:
        samples = asyncio.run(_alternate(address))
    rates = {side: statistics.median(found) for side, found in samples.items()}
    return BenchResult(
        name="score",
        value=rates["router"],
        unit="rollouts/s",
        ratio=rates["router"] / rates["bare"],
        samples=tuple(samples["router"]),
        extra={
            "bare_rollouts_per_s": rates["bare"],
            "one_by_one_rollouts_per_s": rates["one_by_one"],
            "one_by_one_ratio": rates["one_by_one"] / rates["bare"],
            "rollouts": ROLLOUTS,
            "batch_size": BATCH,
            "requests_under_way": UNDER_WAY,
        },
    )


async def _alternate(address: str) -> dict[str, list[float]]:
    """Rollouts a second of every round but the first, by side."""
    rollouts, router = draw_rollouts(), Router(config(address))
    async with grpc.aio.insecure_channel(address) as channel:
        await router.start()
        try:
            sides: dict[str, Callable[[], Awaitable[Sequence[float | None]]]] = {
                "bare": lambda: bare_scores(channel, rollouts),
                "router": lambda: routed(router, rollouts, len(rollouts)),
                "one_by_one": lambda: routed(router, rollouts, 1),
            }
            with settled_heap():
                samples: dict[str, list[float]] = {side: [] for side in sides}
                for _ in range(REPEATS + 1):
                    for side, play in sides.items():
                        samples[side].append(await _rate(play))
            return {side: found[1:] for side, found in samples.items()}
        finally:
            await router.close()


async def _rate(play: Callable[[], Awaitable[Sequence[float | None]]]) -> float:
    began = time.perf_counter()
    values = await play()
    seconds = time.perf_counter() - began
    if list(values) != [1.0] * ROLLOUTS:
        raise EndpointBroken("the do-nothing endpoint of the bench left rollouts unscored")
    return len(values) / seconds


def draw_rollouts() -> list[Rollout]:
    """One turn of 64 tokens each."""
    completion = Completion(
        token_ids=(7,) * TOKENS,
        logprobs=(-1.0,) * TOKENS,
        policy_versions=(1,) * TOKENS,
        finish_reason=FinishReason.STOP,
    )
    question = Message.of("user", "What is the sum of 12 and 34?")
    turn = Turn(prompt_ids=(5,) * 24, completion=completion, message=Message.of("assistant", "It is 46. " * 6))
    return [
        Rollout(
            key=RolloutKey(task_id=f"sum/{number // 8}", group=f"sum/{number // 8}", member=number % 8),
            task=Task(id=f"sum/{number // 8}", messages=(question,), answer="46", source="sum"),
            seed=0,
            turns=(turn,),
            stop_reason=StopReason.COMPLETED,
        )
        for number in range(ROLLOUTS)
    ]


# --- the raw part ------------------------------------------------------------------------------------------------


async def bare_scores(channel: grpc.aio.Channel, rollouts: Sequence[Rollout]) -> list[float]:
    """What one would write by hand: no ids to check, no retries, no deadlines."""
    ask: Any = channel.unary_unary(
        SCORE, reward_pb2.ScoreRequest.SerializeToString, reward_pb2.ScoreResponse.FromString
    )
    room = asyncio.Semaphore(UNDER_WAY)

    async def judge(number: int, batch: Sequence[Rollout]) -> list[float]:
        async with room:
            items = [reward_pb2.ScoreItem(id=rollout.id, rollout=_by_hand(rollout)) for rollout in batch]
            answer = await ask(reward_pb2.ScoreRequest(request_id=str(number), items=items))
            values = {score.id: score.scored.value for score in answer.scores}
            return [values[rollout.id] for rollout in batch]

    batches = [rollouts[start : start + BATCH] for start in range(0, len(rollouts), BATCH)]
    return list(itertools.chain(*await asyncio.gather(*itertools.starmap(judge, enumerate(batches)))))


def _by_hand(rollout: Rollout) -> types_pb2.Rollout:
    """The rollouts of this bench as messages, nothing checked."""
    sent = types_pb2.Rollout(
        id=rollout.id,
        task=types_pb2.Task(
            id=rollout.task.id, messages=[_said(message) for message in rollout.task.messages], source="sum"
        ),
        turns=[
            types_pb2.Turn(
                message=_said(turn.message),
                prompt_tokens=len(turn.prompt_ids),
                completion_tokens=len(turn.completion.token_ids),
            )
            for turn in rollout.turns
        ],
        stop_reason=rollout.stop_reason.value,
        role=rollout.role,
        group=rollout.key.group,
        member=rollout.key.member,
        oldest_version=min(version for turn in rollout.turns for version in turn.completion.policy_versions),
        newest_version=max(version for turn in rollout.turns for version in turn.completion.policy_versions),
    )
    sent.task.answer.string_value = rollout.task.answer
    return sent


def _said(message: Message) -> types_pb2.Message:
    return types_pb2.Message(role=message.role, content=[types_pb2.ContentPart(text=message.text)])


# --- the router --------------------------------------------------------------------------------------------------


def config(address: str) -> Router.Config:
    """One scorer that counts, behind the address."""
    scorer = {"type": "grpc", "address": f"grpc://{address}", "batch_size": BATCH, "concurrency": UNDER_WAY}
    return Router.Config.parse({"scorers": [scorer], "concurrency": ROLLOUTS})


async def routed(router: Router, rollouts: Sequence[Rollout], size: int) -> list[float | None]:
    """Rewards of calls with `size` rollouts each, all calls at once."""
    calls = [rollouts[start : start + size] for start in range(0, len(rollouts), size)]
    answers = await asyncio.gather(*(router.reward(call) for call in calls))
    return [reward.value for rewards in answers for reward in rewards]
