"""What every registered orchestrator promises: one finished rollout, exact tokens, faults as stop reasons."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rlforge.config import build, config_class
from rlforge.errors import ActorDied, ContextOverflow, DataError
from rlforge.interfaces import Orchestrator
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.registry import ORCHESTRATORS
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.types import (
    Completion,
    FinishReason,
    GenerateRequest,
    Message,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
)

TASK = Task(id="addition/17", messages=(Message.of("user", "1+2="),), answer="3")
KEY = RolloutKey(task_id=TASK.id, epoch=2, group="g", member=1)
SAMPLING = Sampling(temperature=0.7, max_new_tokens=4)
WORLDS = {"once": EnvironmentConfig(address="python:tests.unit.orchestrators.worlds:Once")}
"""For orchestrators that play in a world: one that is over after the first reply."""
Generate = Callable[[GenerateRequest], Awaitable[Completion]]


@pytest.fixture
def renderer(tmp_path: Path) -> ChatRenderer:
    build_tokenizer(TokenizerConfig(type="character", alphabet="0123456789+="), [], tmp_path, context=64)
    return ChatRenderer.from_folder(tmp_path)


@pytest.fixture(params=ORCHESTRATORS.names())
async def make(
    request: pytest.FixtureRequest, renderer: ChatRenderer
) -> AsyncIterator[Callable[..., Awaitable[Orchestrator]]]:
    started: list[Orchestrator] = []

    async def made(generate: Generate, **config: Any) -> Orchestrator:
        parsed = config_class(ORCHESTRATORS, request.param).parse({"type": request.param, **config})
        orchestrator: Orchestrator = build(
            ORCHESTRATORS, parsed, offered={"environments": WORLDS}, generate=generate, renderer=renderer
        )
        await orchestrator.start()
        started.append(orchestrator)
        return orchestrator

    yield made
    for orchestrator in started:
        await orchestrator.close()
        await orchestrator.close()


def answering(renderer: ChatRenderer, text: str, reason: FinishReason, seen: list[GenerateRequest]) -> Generate:
    async def generate(request: GenerateRequest) -> Completion:
        seen.append(request)
        ids = renderer.encode(text)
        return Completion(
            token_ids=ids, logprobs=(-0.5,) * len(ids), policy_versions=(7,) * len(ids), finish_reason=reason
        )

    return generate


async def test_a_reply_is_kept_as_it_was_sampled(make: Any, renderer: ChatRenderer) -> None:
    seen: list[GenerateRequest] = []
    orchestrator = await make(answering(renderer, "3<|im_end|>", FinishReason.STOP, seen))
    rollout = await orchestrator.run(KEY, TASK, SAMPLING, 5)
    assert isinstance(orchestrator, Orchestrator)
    assert (rollout.key, rollout.task, rollout.sampling, rollout.seed) == (KEY, TASK, SAMPLING, 5)
    assert rollout.stop_reason == StopReason.COMPLETED
    assert rollout.text == "3"
    assert rollout.turns[-1].completion.token_ids == (*renderer.encode("3"), renderer.eos_id)
    assert rollout.turns[0].prompt_ids == seen[0].prompt_ids == renderer.prompt(TASK.messages)
    assert seen[0].sampling == SAMPLING
    assert rollout.timings["generate_s"] >= 0
    assert not rollout.scored


async def test_the_templates_end_of_turn_reaches_the_generator(make: Any, renderer: ChatRenderer) -> None:
    seen: list[GenerateRequest] = []
    renderer.stop_ids = (3, 1)
    await (await make(answering(renderer, "3<|im_end|>", FinishReason.STOP, seen))).run(KEY, TASK, SAMPLING, 5)
    assert [request.stop_ids for request in seen] == [(3, 1)] * len(seen)
    assert seen


async def test_a_reply_cut_short_says_so(make: Any, renderer: ChatRenderer) -> None:
    orchestrator = await make(answering(renderer, "3333", FinishReason.LENGTH, []))
    rollout = await orchestrator.run(KEY, TASK, SAMPLING, 5)
    assert rollout.stop_reason == StopReason.MAX_TOKENS


async def test_each_attempt_has_a_seed_of_its_own_and_the_same_attempt_the_same(
    make: Any, renderer: ChatRenderer
) -> None:
    seen: list[GenerateRequest] = []
    orchestrator = await make(answering(renderer, "3", FinishReason.STOP, seen))
    other_task = Task(id="addition/18", messages=TASK.messages)
    keys = [
        KEY,
        RolloutKey(task_id=TASK.id, epoch=3, group="g", member=1),
        RolloutKey(task_id=TASK.id, epoch=2, group="g", member=2),
        RolloutKey(task_id=TASK.id, epoch=2, group="g", member=1, attempt=1),
    ]
    for key in keys:
        await orchestrator.run(key, TASK, SAMPLING, 5)
    await orchestrator.run(RolloutKey(task_id=other_task.id, epoch=2, group="g", member=1), other_task, SAMPLING, 5)
    await orchestrator.run(KEY, TASK, SAMPLING, 6)
    await orchestrator.run(KEY, TASK, SAMPLING, 5)
    seeds = [request.seed for request in seen]
    assert len(set(seeds)) == 6
    assert seeds[-1] == seeds[0]


async def test_a_prompt_beyond_the_context_ends_the_rollout(make: Any) -> None:
    async def refuse(request: GenerateRequest) -> Completion:
        raise ContextOverflow("the prompt has 100 tokens, more than the 64 of the context")

    rollout = await (await make(refuse)).run(KEY, TASK, SAMPLING, 5)
    assert (rollout.stop_reason, rollout.turns) == (StopReason.CONTEXT_OVERFLOW, ())
    assert "more than the 64" in rollout.error


async def test_a_completion_that_never_comes_ends_the_rollout_in_time(make: Any) -> None:
    async def hang(request: GenerateRequest) -> Completion:
        await asyncio.sleep(60)
        raise AssertionError

    rollout = await (await make(hang, deadline_s=0.05)).run(KEY, TASK, SAMPLING, 5)
    assert (rollout.stop_reason, rollout.turns) == (StopReason.TIMEOUT, ())
    assert "waited 0.05 s for a completion for rollout 'addition/17@2#1'" in rollout.error


async def test_a_dead_generator_is_not_the_fault_of_the_rollout(make: Any) -> None:
    async def dead(request: GenerateRequest) -> Completion:
        raise ActorDied("generator 0 is gone")

    with pytest.raises(ActorDied):
        await (await make(dead)).run(KEY, TASK, SAMPLING, 5)


async def test_cancellation_reaches_the_generator(make: Any) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: GenerateRequest) -> Completion:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    orchestrator = await make(hang)
    running = asyncio.ensure_future(orchestrator.run(KEY, TASK, SAMPLING, 5))
    await asyncio.wait_for(asked.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled.is_set()


async def test_a_prompt_the_tokenizer_cannot_read_is_an_error_that_names_the_task(
    make: Any, renderer: ChatRenderer
) -> None:
    task = Task(id="addition/€", messages=(Message.of("user", "1€"),))
    with pytest.raises(DataError, match=r"task 'addition/€': .* no token for '€'"):
        await (await make(answering(renderer, "3", FinishReason.STOP, []))).run(KEY, task, SAMPLING, 5)
