"""Rollouts of many turns in worlds: every way to end one, seeds, tools, limits, and worlds that are always freed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlforge.errors import ConfigError, ContextOverflow
from rlforge.hosting.serve import serving
from rlforge.interfaces import World
from rlforge.loops.collect import GroupPlayer
from rlforge.orchestrators.environment_loop import EnvironmentLoop
from rlforge.orchestrators.environments import EnvironmentConfig, environment_of
from rlforge.rewards.router import Router
from rlforge.runlog.rollouts import write_rollouts
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.tokens.tool_calls.format import ReadReply
from rlforge.tokens.trajectories import trajectories
from rlforge.transports.connect import connect_environment
from rlforge.types import (
    Completion,
    FinishReason,
    GenerateRequest,
    Group,
    GroupRequest,
    Message,
    Observation,
    Reward,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
    ToolCall,
    WorldStart,
)
from tests.unit.orchestrators import worlds
from tests.worlds import Clockwork

Generate = Callable[[GenerateRequest], Awaitable[Completion]]
TASK = Task(id="guess/three", messages=(Message.of("system", "guess"),), answer=3, source="guess")
KEY = RolloutKey(task_id=TASK.id, epoch=1, group="g", member=0)
SAMPLING = Sampling(max_new_tokens=128)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> ChatRenderer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(TokenizerConfig(type="byte"), [], folder, context=4096)
    return ChatRenderer.from_folder(folder)


@pytest.fixture
def ascii_renderer(tmp_path: Path) -> ChatRenderer:
    alphabet = "".join(map(chr, range(32, 127)))
    build_tokenizer(TokenizerConfig(type="character", alphabet=alphabet), [], tmp_path, context=4096)
    return ChatRenderer.from_folder(tmp_path)


@pytest.fixture(autouse=True)
def every_world_is_freed() -> Iterator[None]:
    worlds.OPEN.clear()
    worlds.SEEDS.clear()
    worlds.Lights.calls.clear()
    yield
    assert not worlds.OPEN


def saying(renderer: ChatRenderer, *replies: str, reason: FinishReason = FinishReason.STOP) -> Generate:
    """A policy that says these things in turn, the last one for ever; it keeps what it was asked in `asked`."""
    asked: list[GenerateRequest] = []

    async def generate(request: GenerateRequest) -> Completion:
        text = replies[min(len(asked), len(replies) - 1)]
        asked.append(request)
        ids = renderer.encode(text) + ((renderer.eos_id,) if reason == FinishReason.STOP else ())
        ids = ids[: request.sampling.max_new_tokens]
        return Completion(
            token_ids=ids, logprobs=(-1.0,) * len(ids), policy_versions=(0,) * len(ids), finish_reason=reason
        )

    generate.asked = asked  # type: ignore[attr-defined]
    return generate


async def play(renderer: ChatRenderer, world: str, generate: Generate, *, task: Task = TASK, **settings: Any):
    loop = loop_of(renderer, world, generate, **settings)
    await loop.start()
    try:
        return await loop.run(KEY, task, SAMPLING, 5)
    finally:
        await loop.close()


def loop_of(renderer: ChatRenderer, world: str, generate: Generate, **settings: Any) -> EnvironmentLoop:
    config = EnvironmentLoop.Config.parse({"type": "environment_loop", **settings})
    return EnvironmentLoop(config, generate=generate, renderer=renderer, environments={"guess": at(world)})


def at(world: str, **settings: Any) -> EnvironmentConfig:
    return EnvironmentConfig(address=f"python:tests.unit.orchestrators.worlds:{world}", **settings)


# --- a rollout ----------------------------------------------------------------------------------------------------


async def test_the_policy_and_the_world_take_turns_until_the_task_is_over(renderer: ChatRenderer) -> None:
    generate = saying(renderer, "1", "5", "3")
    rollout = await play(renderer, "Guess", generate)
    assert rollout.stop_reason == StopReason.COMPLETED
    assert [turn.message.text for turn in rollout.turns] == ["1", "5", "3"]
    assert [message.text for message in rollout.opening] == ["which?"]
    assert [[m.text for m in turn.observation] for turn in rollout.turns] == [["higher"], ["lower"], []]
    assert [turn.reward for turn in rollout.turns] == [-0.25, -0.25, 1.0]
    assert (dict(rollout.turns[-1].components), dict(rollout.turns[-1].info)) == ({"found": 1.0}, {"said": "3"})
    assert renderer.decode(rollout.turns[0].prompt_ids).endswith("user\nwhich?\nassistant\n")
    assert set(rollout.timings) == {"open_s", "generate_s", "world_s"}


async def test_a_rollout_that_appends_is_one_trajectory_of_exactly_what_was_sampled(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Guess", saying(renderer, "1", "5", "3"))
    (only,) = trajectories(replace(rollout, reward=Reward(value=1.0)))
    last = rollout.turns[-1]
    assert tuple(only.token_ids) == last.prompt_ids + last.completion.token_ids
    assert only.turns is not None
    assert [int(t) for t in only.turns[only.sampled]] == [0, 0, 1, 1, 2, 2]
    assert only.turn_rewards == (-0.25, -0.25, 1.0)


async def test_each_turn_has_a_seed_of_its_own_and_the_same_turn_the_same(renderer: ChatRenderer) -> None:
    first, again = saying(renderer, "1"), saying(renderer, "1")
    await play(renderer, "Guess", first, max_turns=3)
    await play(renderer, "Guess", again, max_turns=3)
    seeds = [request.seed for request in first.asked]  # type: ignore[attr-defined]
    assert len(set(seeds)) == 3
    assert seeds == [request.seed for request in again.asked]  # type: ignore[attr-defined]


async def test_all_members_and_attempts_of_a_group_start_the_same_world_and_other_groups_another(
    renderer: ChatRenderer,
) -> None:
    loop = loop_of(renderer, "Guess", saying(renderer, "3"))
    await loop.start()
    for key in (KEY, replace(KEY, member=1), replace(KEY, attempt=1), replace(KEY, group="h"), replace(KEY, epoch=2)):
        await loop.run(key, TASK, SAMPLING, 5)
    await loop.close()
    (seeds,) = worlds.SEEDS.values()
    assert list(worlds.SEEDS) == ["three"]
    assert len(set(seeds[:3])) == 1
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


# --- endings -------------------------------------------------------------------------------------------------------


async def test_a_rollout_ends_after_max_turns(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Guess", saying(renderer, "1"), max_turns=4)
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.MAX_TURNS, 4)
    assert rollout.truncated


async def test_a_limit_of_the_worlds_own_is_a_limit_on_turns(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Limited", saying(renderer, "1"))
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.MAX_TURNS, 1)


async def test_the_last_reply_is_cut_where_the_sequence_is_full(renderer: ChatRenderer) -> None:
    def full(text: str) -> Generate:
        return saying(renderer, text, reason=FinishReason.LENGTH)

    first = len((await play(renderer, "Guess", saying(renderer, "3"))).turns[0].prompt_ids)
    rollout = await play(renderer, "Guess", full("9" * 128), max_tokens=first + 10)
    assert rollout.stop_reason == StopReason.MAX_TOKENS
    assert [len(turn.completion.token_ids) for turn in rollout.turns] == [10]
    rollout = await play(renderer, "Guess", saying(renderer, "9"), max_tokens=first + 10)
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.MAX_TOKENS, 1)


async def test_a_reply_cut_at_max_new_tokens_ends_the_rollout_unless_the_world_is_to_see_it(
    renderer: ChatRenderer,
) -> None:
    rambling = saying(renderer, "3" + " " * 127, reason=FinishReason.LENGTH)
    rollout = await play(renderer, "Guess", rambling)
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.MAX_TOKENS, 1)
    rollout = await play(renderer, "Guess", rambling, on_long_reply="step")
    assert rollout.stop_reason == StopReason.COMPLETED


async def test_a_reply_cut_by_the_context_ends_the_rollout_with_context_overflow(renderer: ChatRenderer) -> None:
    short = saying(renderer, "3", reason=FinishReason.LENGTH)
    assert (await play(renderer, "Guess", short)).stop_reason == StopReason.CONTEXT_OVERFLOW


async def test_a_prompt_beyond_the_context_keeps_the_turns_before_it(renderer: ChatRenderer) -> None:
    said = saying(renderer, "1")

    async def short(request: GenerateRequest) -> Completion:
        if len(request.prompt_ids) > 100:
            raise ContextOverflow("too long")
        return await said(request)

    rollout = await play(renderer, "Guess", short)
    assert rollout.stop_reason == StopReason.CONTEXT_OVERFLOW
    assert len(rollout.turns) > 1


async def test_a_world_that_breaks_ends_the_rollout_and_it_is_never_trained_on(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Breaks", saying(renderer, "1"))
    assert rollout.stop_reason == StopReason.ENVIRONMENT_ERROR
    assert "a wheel came off" in rollout.error
    assert [turn.reward for turn in rollout.turns] == [0.5, None]
    router = Router(Router.Config.parse({"scorers": [{"type": "environment"}]}))
    (reward,) = await router.reward([rollout])
    assert reward.value is None
    assert trajectories(replace(rollout, reward=reward)) == ()


class Shaky(Clockwork):
    """Plays the role of an environment itself, and raises what it likes."""

    async def open(self, start: WorldStart) -> tuple[World, Observation]:
        if start.task.id == "none":
            raise KeyError("no such world")
        world, first = await super().open(start)
        return ShakyWorld(world), first


class ShakyWorld:
    def __init__(self, world: World) -> None:
        self.step = world.step

    async def close(self) -> None:
        raise OSError("the door is stuck")


@pytest.mark.parametrize(
    ("task", "said", "why"),
    [
        ("three", "boom", "ValueError: a gear has broken"),
        ("three", "cancelled", "CancelledError"),
        ("none", "", "KeyError: 'no such world'"),
    ],
)
async def test_whatever_an_environment_in_this_process_raises_is_a_fault_of_its_world(
    renderer: ChatRenderer, task: str, said: str, why: str
) -> None:
    config = EnvironmentConfig(address=f"python:{__name__}:Shaky")
    loop = EnvironmentLoop(
        EnvironmentLoop.Config.parse({"type": "environment_loop"}),
        generate=saying(renderer, said),
        renderer=renderer,
        environments={"guess": config},
    )
    await loop.start()
    rollout = await loop.run(KEY, replace(TASK, id=task), SAMPLING, 5)
    await loop.close()
    assert rollout.stop_reason == StopReason.ENVIRONMENT_ERROR
    assert why in rollout.error


async def test_a_world_that_its_endpoint_gives_up_ends_the_rollout_as_cancelled_and_unscored(
    renderer: ChatRenderer,
) -> None:
    rollout = await play(renderer, "Withdrawn", saying(renderer, "1"))
    assert rollout.stop_reason == StopReason.CANCELLED
    assert "somebody pulled the plug" in rollout.error
    router = Router(Router.Config.parse({"scorers": [{"type": "environment"}]}))
    (reward,) = await router.reward([rollout])
    assert reward.value is None


async def test_a_world_that_does_not_answer_ends_the_rollout_with_timeout(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Stuck", saying(renderer, "1"), step_timeout_s=0.5)
    assert rollout.stop_reason == StopReason.TIMEOUT
    assert "0.5 s" in rollout.error
    worlds.OPEN.clear()  # its thread is still in the world


async def test_an_observation_that_is_no_prompt_is_the_worlds_fault(ascii_renderer: ChatRenderer) -> None:
    rollout = await play(ascii_renderer, "Unreadable", saying(ascii_renderer, "1"))
    assert rollout.stop_reason == StopReason.ENVIRONMENT_ERROR
    assert "no token for '☃'" in rollout.error
    assert len(rollout.turns) == 1


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_an_endpoint_that_is_not_there_is_asked_until_the_deadline(scheme: str, renderer: ChatRenderer) -> None:
    config = EnvironmentLoop.Config.parse({"type": "environment_loop", "open_timeout_s": 0.8})
    nobody = EnvironmentConfig(address=f"{scheme}://127.0.0.1:9", connect_timeout_s=0.2)
    loop = EnvironmentLoop(config, generate=saying(renderer, "1"), renderer=renderer, environments={"guess": nobody})
    await loop.start()
    began = time.monotonic()
    rollout = await loop.run(KEY, TASK, SAMPLING, 5)
    await loop.close()
    assert time.monotonic() - began < 10
    assert rollout.stop_reason == StopReason.ENVIRONMENT_ERROR
    assert f"{scheme}://127.0.0.1:9" in rollout.error


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_world_that_does_not_come_free_in_time_ends_the_rollout_with_timeout(
    scheme: str, renderer: ChatRenderer
) -> None:
    config = EnvironmentLoop.Config.parse({"type": "environment_loop", "open_timeout_s": 0.8})
    async with serving(worlds.Guess, f"{scheme}://127.0.0.1:0", worlds=1) as address:
        full = EnvironmentConfig(address=address, busy_timeout_s=0.2)
        somebody = connect_environment(full)
        await somebody.open(WorldStart(task=TASK, seed=1))
        loop = EnvironmentLoop(config, generate=saying(renderer, "3"), renderer=renderer, environments={"guess": full})
        await loop.start()
        rollout = await loop.run(KEY, TASK, SAMPLING, 5)
        await loop.close()
        await somebody.close()
    assert (rollout.stop_reason, rollout.turns) == (StopReason.TIMEOUT, ())
    assert "came free" in rollout.error


async def test_a_completion_that_does_not_come_in_time_ends_the_rollout_with_timeout(renderer: ChatRenderer) -> None:
    async def hangs(request: GenerateRequest) -> Completion:
        await asyncio.sleep(60)
        raise AssertionError

    rollout = await play(renderer, "Guess", hangs, deadline_s=0.1)
    assert (rollout.stop_reason, rollout.turns) == (StopReason.TIMEOUT, ())
    assert "waited 0.1 s for a completion" in rollout.error


async def test_a_cancelled_rollout_frees_its_world(renderer: ChatRenderer) -> None:
    asked = asyncio.Event()

    async def hangs(request: GenerateRequest) -> Completion:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError

    loop = loop_of(renderer, "Guess", hangs)
    await loop.start()
    playing = asyncio.ensure_future(loop.run(KEY, TASK, SAMPLING, 5))
    await asyncio.wait_for(asked.wait(), 10)
    assert worlds.OPEN
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert not worlds.OPEN
    await loop.close()


# --- tools ---------------------------------------------------------------------------------------------------------


CALL = '<tool_call>{"name": "turn", "arguments": {"to": "on"}}</tool_call>'


async def test_tools_are_told_called_and_answered(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Lights", saying(renderer, f"Light!\n{CALL}", "It is on."))
    first, second = rollout.turns
    assert '"name": "turn"' in renderer.decode(first.prompt_ids)
    assert (first.message.text, first.message.tool_calls[0].name) == ("Light!", "turn")
    assert [(m.role, m.text, m.tool_call_id) for m in first.observation] == [("tool", "done", "call_0_0")]
    assert CALL in renderer.decode(second.prompt_ids)
    assert (rollout.stop_reason, worlds.Lights.calls) == (StopReason.COMPLETED, ["on"])
    assert sum(turn.reward or 0.0 for turn in rollout.turns) == 1.0


async def test_tools_that_are_not_told_can_be_called_all_the_same(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Lights", saying(renderer, CALL, "It is on."), tell_tools=False)
    assert '"name": "turn"' not in renderer.decode(rollout.turns[0].prompt_ids)
    assert (rollout.stop_reason, worlds.Lights.calls) == (StopReason.COMPLETED, ["on"])


async def test_a_call_that_cannot_be_read_is_answered_with_what_is_wrong(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Lights", saying(renderer, "<tool_call>{turn", CALL, "It is on."))
    assert len(rollout.turns) == 3
    assert "does not end; write <tool_call>" in rollout.turns[0].observation[0].text
    assert "does not end" in renderer.decode(rollout.turns[1].prompt_ids)
    assert rollout.turns[0].reward is None
    assert rollout.stop_reason == StopReason.COMPLETED


async def test_a_call_with_half_a_surrogate_pair_is_answered_and_ends_nothing(
    renderer: ChatRenderer, tmp_path: Path
) -> None:
    half = r'<tool_call>{"name": "turn", "arguments": {"to": "\ud83d"}}</tool_call>'
    rollout = await play(renderer, "Lights", saying(renderer, half, "It is on."))
    assert "surrogates not allowed" in rollout.turns[0].observation[0].text
    assert rollout.stop_reason == StopReason.COMPLETED
    request = GroupRequest(task=TASK, group="g", size=1, sampling=SAMPLING, seed=0)
    assert write_rollouts(tmp_path / "a.parquet", [Group(request=request, rollouts=(rollout,))]) == 1


class Careless:
    """A tool format of the user's that lets through what cannot travel."""

    def read(self, reply: str, turn: int) -> ReadReply:
        return ReadReply("", (ToolCall(id="c", name="turn", arguments='{"to": "\ud83d"}'),))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
async def test_a_reply_that_cannot_travel_ends_its_rollout_and_no_other(renderer: ChatRenderer, scheme: str) -> None:
    settings = {"tool_format": f"{__name__}:Careless"}
    async with serving(worlds.Lights, f"{scheme}://127.0.0.1:0") as address:
        config = EnvironmentLoop.Config.parse({"type": "environment_loop", **settings})
        environments = {"guess": EnvironmentConfig(address=address)}
        loop = EnvironmentLoop(config, generate=saying(renderer, "x"), renderer=renderer, environments=environments)
        await loop.start()
        rollout = await loop.run(KEY, TASK, SAMPLING, 5)
        await loop.close()
    assert rollout.stop_reason == StopReason.ENVIRONMENT_ERROR
    assert "cannot be passed on" in rollout.error


async def test_a_call_that_cannot_be_read_ends_the_rollout_where_asked_and_is_scored(renderer: ChatRenderer) -> None:
    rollout = await play(renderer, "Lights", saying(renderer, CALL, "<tool_call>{turn"), on_parse_error="end")
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.PARSE_ERROR, 2)
    router = Router(Router.Config.parse({"scorers": [{"type": "environment"}]}))
    (reward,) = await router.reward([rollout])
    assert reward.value == 1.0


def test_an_unknown_tool_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown tool format 'hermse'\. Did you mean 'hermes'"):
        EnvironmentLoop.Config.parse({"type": "environment_loop", "tool_format": "hermse"})


# --- many at once ----------------------------------------------------------------------------------------------------


async def test_slow_worlds_do_not_hold_fast_ones_among_a_thousand(renderer: ChatRenderer) -> None:
    worlds.Slow.let = asyncio.Event()
    loop = loop_of(renderer, "Slow", saying(renderer, "1"))
    await loop.start()

    async def one(number: int) -> StopReason:
        task = Task(id=f"guess/{number}", messages=(), answer=number, source="guess")
        return (await loop.run(replace(KEY, task_id=task.id), task, SAMPLING, 5)).stop_reason

    playing = [asyncio.ensure_future(one(number)) for number in range(1000)]
    async with asyncio.timeout(60):
        await asyncio.gather(*playing[::2])
        assert not any(slow.done() for slow in playing[1::2])
        worlds.Slow.let.set()
        assert set(await asyncio.gather(*playing)) == {StopReason.COMPLETED}
    await loop.close()


async def test_a_worker_tries_a_broken_world_again_and_closes_what_it_opened(renderer: ChatRenderer) -> None:
    router = Router(Router.Config.parse({"scorers": [{"type": "environment"}]}))
    worker = GroupPlayer(loop_of(renderer, "Breaks", saying(renderer, "1")), router)
    await worker.start()
    request = GroupRequest(task=TASK, group="g", size=2, sampling=SAMPLING, seed=0)
    (group,) = [group async for group in worker.collect([request])]
    await worker.close()
    assert [rollout.key.attempt for rollout in group.rollouts] == [1, 1]
    assert group.rewards == (None, None)


# --- which environment -----------------------------------------------------------------------------------------------


def test_a_task_is_played_where_its_source_is_claimed_or_has_its_name() -> None:
    one = {"arm": at("Guess")}
    two = {"arm": at("Guess"), "code": at("Guess", sources=["bugs", "typos"])}
    assert environment_of("anything", one) == "arm"
    assert environment_of("bugs", two) == "code"
    assert environment_of("arm", two) == "arm"
    with pytest.raises(ConfigError, match=r"no environment plays the tasks of source 'armm'\. Did you mean 'arm'"):
        environment_of("armm", two)
    with pytest.raises(ConfigError, match="claimed by environments a, b"):
        environment_of("x", {"a": at("Guess", sources=["x"]), "b": at("Guess", sources=["x"])})
