"""Rollouts in served worlds behind a proxy that injects faults: each is there once, none with a wrong reward."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlforge.hosting.serve import serving
from rlforge.loops.collect import GroupPlayer
from rlforge.orchestrators import environments
from rlforge.orchestrators.environment_loop import EnvironmentLoop
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.rewards.router import Router
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.tokenizer import TokenizerConfig, build_tokenizer
from rlforge.transports import http, remote
from rlforge.types import (
    Completion,
    FinishReason,
    GenerateRequest,
    Group,
    GroupRequest,
    Message,
    Sampling,
    StopReason,
    Task,
)
from tests.faults import proxy as faults
from tests.faults.adding import Adding, Breaks, assert_each_once_and_none_wrong
from tests.worlds import until

GROUPS, MEMBERS = 3, 4
SCHEMES = ["grpc", "http"]


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> ChatRenderer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(TokenizerConfig(type="byte"), [], folder, context=4096)
    return ChatRenderer.from_folder(folder)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adding, "steps", 0)
    monkeypatch.setattr(Adding, "living", set())
    monkeypatch.setattr(environments, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(environments, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(http, "DESCRIBE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(remote, "GRACE_S", 0.1)


def talking(renderer: ChatRenderer) -> Callable[[GenerateRequest], Any]:
    """A policy that says some number, another one in every turn of every rollout."""

    async def generate(request: GenerateRequest) -> Completion:
        await asyncio.sleep(0.002)
        ids = (*renderer.encode(str(random.Random(request.seed).randrange(10**6))), renderer.eos_id)
        return Completion(
            token_ids=ids,
            logprobs=(-1.0,) * len(ids),
            policy_versions=(0,) * len(ids),
            finish_reason=FinishReason.STOP,
        )

    return generate


async def collected(
    renderer: ChatRenderer, address: str, *, attempts: int = 8, step_timeout_s: float = 0.3
) -> list[Group]:
    """All groups, each member tried up to `attempts` times."""
    settings = {"open_timeout_s": 3.0, "step_timeout_s": step_timeout_s}
    loop = EnvironmentLoop(
        EnvironmentLoop.Config.parse({"type": "environment_loop", **settings}),
        generate=talking(renderer),
        renderer=renderer,
        environments={"adding": EnvironmentConfig(address=address, connect_timeout_s=0.3)},
    )
    router = Router(Router.Config.parse({"scorers": [{"type": "environment"}]}))
    player = GroupPlayer(loop, router, attempts=attempts)
    await player.start()
    tasks = [Task(id=f"adding/{n}", messages=(Message.of("user", "go"),), source="adding") for n in range(GROUPS)]
    requests = [
        GroupRequest(task=task, group=task.id, size=MEMBERS, sampling=Sampling(max_new_tokens=16), seed=0)
        for task in tasks
    ]
    try:
        async with asyncio.timeout(30):
            return [group async for group in player.collect(requests)]
    finally:
        await player.close()


def share_scored(groups: list[Group]) -> float:
    """Of rollouts of which each is there once, scored rightly or unscored by a fault."""
    wanted = [(f"adding/{n}", member) for n in range(GROUPS) for member in range(MEMBERS)]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return assert_each_once_and_none_wrong(rollouts, wanted) / len(wanted)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fault", ["reset", "hang", "garbage", "drip"])
async def test_rollouts_behind_spoiled_connections_are_there_once_and_none_has_a_wrong_reward(
    scheme: str, fault: faults.Fault, renderer: ChatRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Adding, f"{scheme}://127.0.0.1:0") as real:
        proxy = faults.Proxy(int(real.rpartition(":")[2]), faults=(fault,), share=0.4, seed=7, always_first=True)
        await proxy.start()
        dropping: list[asyncio.Task[None]] = []

        def now_and_then(steps: int) -> None:
            if steps % 60 == 20:  # all that is under way breaks off, and new connections meet new faults
                dropping.append(asyncio.create_task(proxy.drop()))

        monkeypatch.setattr(Adding, "meanwhile", staticmethod(now_and_then))
        try:
            groups = await collected(renderer, f"{scheme}://127.0.0.1:{proxy.port}")
        finally:
            await proxy.stop()
            await asyncio.gather(*dropping)
    assert proxy.done[fault] >= 1
    assert dropping
    assert share_scored(groups) >= 0.5


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_worlds_whose_answers_drip_in_too_slowly_leave_their_rollouts_unscored_in_time(
    scheme: str, renderer: ChatRenderer
) -> None:
    async with serving(Adding, f"{scheme}://127.0.0.1:0") as real:
        proxy = faults.Proxy(int(real.rpartition(":")[2]), faults=("drip",), share=1.0, pause_s=0.05)
        await proxy.start()
        try:
            groups = await collected(renderer, f"{scheme}://127.0.0.1:{proxy.port}", attempts=2)
        finally:
            await proxy.stop()
    assert proxy.done["drip"] >= 1
    assert share_scored(groups) == 0
    reasons = {rollout.stop_reason for group in groups for rollout in group.rollouts}
    assert reasons == {StopReason.TIMEOUT}


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_worlds_that_break_at_three_steps_in_ten_are_played_anew_and_their_first_tries_never_count(
    scheme: str, renderer: ChatRenderer
) -> None:
    async with serving(Breaks, f"{scheme}://127.0.0.1:0") as address:
        groups = await collected(renderer, address)
    assert share_scored(groups) >= 0.5
    assert any(rollout.key.attempt > 0 for group in groups for rollout in group.rollouts)


async def test_three_spoiled_answers_in_ten_make_no_wrong_reward_and_keep_no_world(renderer: ChatRenderer) -> None:
    changes = (faults.error_500, faults.unavailable_503, faults.not_json, faults.cut_off, faults.another_step)
    async with (
        serving(Adding, "http://127.0.0.1:0") as real,
        faults.http_proxy(real, *changes, paths=("/v1/worlds",)) as (proxy, address),
    ):
        groups = await collected(renderer, address, step_timeout_s=5.0)
        await until(lambda: not Adding.living)
    assert min(proxy.done[change.__name__] for change in changes) >= 2
    assert share_scored(groups) >= 0.5
