"""What every placement promises, and the rollout workers and reward routers it makes, here or in other processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from rlforge.cluster.config import ClusterConfig
from rlforge.cluster.specs import GeneratorSpec, LearnerSpec, RouterSpec, WorkerSpec
from rlforge.errors import ConfigError, DataError
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.interfaces import Generator, Learner, RewardRouter, RolloutWorker
from rlforge.learner.config import LearnerConfig
from rlforge.loops.collect import Collector
from rlforge.orchestrators.single_turn import SingleTurn
from rlforge.registry import CLUSTERS
from rlforge.rewards.router import Router
from rlforge.tokens.renderer import ChatRenderer
from rlforge.tokens.trajectories import trajectories
from rlforge.types import Batch, GenerateRequest, GroupRequest, ImagePart, Message, Objective, Reward, Sampling, Task
from tests.rollouts import rollout

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
RIGHT = Router.Config.parse({"scorers": [{"type": "regex", "pattern": "^{answer}$"}]})
CONFIG = LearnerConfig(device="cpu", lr=1e-2, threads=1)
# Ray needs some ten seconds for its processes.
KINDS = [pytest.param(kind, marks=pytest.mark.slow) if kind == "ray" else kind for kind in CLUSTERS.names()]


@dataclass(frozen=True)
class Placed:
    """A cluster and the parts of a stage on it."""

    cluster: Any
    model: str
    policy: Generator
    learner: Learner
    router: RewardRouter
    collector: Collector


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def placed(request: pytest.FixtureRequest, tiny_model: Callable[..., str]) -> AsyncIterator[Placed]:
    run_id, model = f"test-cluster-{request.param}", tiny_model()
    config = ClusterConfig(type=request.param, rollout_workers=2, object_store_mb=80)
    cluster = CLUSTERS.load(request.param)(config, run_id=run_id)
    try:
        await cluster.start()
        generators = await cluster.generators({"policy": [scripted(model, run_id) for _ in range(2)]})
        router = await cluster.router(RouterSpec(config=RIGHT, model=model), generators)
        learner = LearnerSpec(config=CONFIG, model=model, seed=0, run_id=run_id, total_steps=9)
        yield Placed(
            cluster=cluster,
            model=model,
            policy=generators["policy"],
            router=router,
            learner=await cluster.learner(learner),
            collector=await cluster.collector(playing(model), generators, router),
        )
    finally:
        await cluster.close()
        await cluster.close()


def scripted(model: str, run_id: str) -> GeneratorSpec:
    """Says 46 or 47."""
    renderer = ChatRenderer.from_folder(model)
    replies = tuple((*renderer.encode(text), renderer.eos_id) for text in ("46", "47"))
    return GeneratorSpec(config=ScriptedGenerator.Config(replies=replies), model=model, seed=0, run_id=run_id)


def playing(model: str) -> WorkerSpec:
    return WorkerSpec(orchestrator=SingleTurn.Config.parse({}), model=model)


def asked(name: str, question: str = "12+34=", size: int = 4) -> GroupRequest:
    task = Task(id=f"t/{name}", messages=(Message.of("user", question),), answer="46", source="t")
    return GroupRequest(task=task, group=name, size=size, sampling=Sampling(max_new_tokens=8), seed=3, deadline_s=60.0)


REQUESTS = [asked(str(number), f"{number}+34=") for number in range(6)]


async def test_the_parts_it_makes_play_their_roles(placed: Placed) -> None:
    assert isinstance(placed.policy, Generator)
    assert isinstance(placed.learner, Learner)
    assert isinstance(placed.router, RewardRouter)
    assert len(placed.collector.workers) == 2
    assert all(isinstance(worker, RolloutWorker) for worker in placed.collector.workers)


async def test_a_worker_yields_every_group_once_whole_and_scored(placed: Placed) -> None:
    worker = placed.collector.workers[0]
    groups = {group.request.group: group async for group in worker.collect(REQUESTS)}
    assert [groups[request.group].request for request in REQUESTS] == REQUESTS
    for group in groups.values():
        assert [member.key.member for member in group.rollouts] == [0, 1, 2, 3]
        assert all(member.key.task_id == group.request.task.id for member in group.rollouts)
        assert group.rewards == tuple(float(member.text == "46") for member in group.rollouts)
        assert all(member.timings["score_s"] >= 0 for member in group.rollouts)
    assert {member.text for group in groups.values() for member in group.rollouts} == {"46", "47"}


async def test_a_worker_asked_for_nothing_yields_nothing(placed: Placed) -> None:
    assert [group async for group in placed.collector.workers[0].collect([])] == []


async def test_the_same_requests_give_the_same_rollouts_whichever_worker_plays_them(placed: Placed) -> None:
    shared = await placed.collector.collect(REQUESTS)
    (alone,) = [await Collector([placed.collector.workers[1]]).collect(REQUESTS)]
    assert [group.request.group for group in shared] == [request.group for request in REQUESTS]
    assert [_tokens(group) for group in shared] == [_tokens(group) for group in alone]


async def test_a_task_that_can_never_be_played_is_an_error_that_names_it(placed: Placed) -> None:
    picture = Message(role="user", content=(ImagePart(data=b"", mime="image/png"),))
    request = asked("odd")
    unreadable = replace(request, task=replace(request.task, messages=(picture,)))
    with pytest.raises(DataError, match="task 't/odd'"):
        await placed.collector.collect([unreadable])
    assert len(await placed.collector.collect(REQUESTS[:1])) == 1


async def test_a_router_gives_each_rollout_its_reward_in_order(placed: Placed) -> None:
    replies = ["46", "47", "", "46"] * 5
    rewards = await placed.router.reward([rollout(reply) for reply in replies])
    assert all(isinstance(reward, Reward) for reward in rewards)
    assert [reward.value for reward in rewards] == [float(reply == "46") for reply in replies]
    assert all(len(reward.scores) == 1 for reward in rewards)
    assert await placed.router.reward([]) == []
    assert isinstance(await placed.router.metrics(), dict)


async def test_what_the_learner_publishes_the_generators_sample_with(placed: Placed) -> None:
    groups = await placed.collector.collect(REQUESTS)
    imitated = tuple(t for group in groups for member in group.rollouts for t in trajectories(member))
    measured = await placed.learner.step(
        Batch(trajectories=imitated, objectives={"policy": Objective(loss="cross_entropy")})
    )
    assert measured["learner/grad_norm"] > 0
    manifest = await placed.learner.publish(7)
    report = await placed.policy.load(manifest)
    assert (report.version, report.checksum) == (7, manifest.checksum)
    request = GenerateRequest(prompt_ids=(4, 5), sampling=Sampling(max_new_tokens=8), seed=0)
    assert set((await placed.policy.generate(request)).policy_versions) == {7}


async def test_a_part_that_cannot_start_says_why_and_the_others_go_on(placed: Placed) -> None:
    missing = Router.Config.parse({"scorers": [{"type": "python", "function": "nowhere.py:reward"}]})
    with pytest.raises(ConfigError, match=r"nowhere\.py"):
        await placed.cluster.router(RouterSpec(config=missing, model=placed.model), {})
    (reward,) = await placed.router.reward([rollout("46")])
    assert reward.value == 1


async def test_parts_that_are_released_can_be_made_anew_over_the_generators_that_stay(placed: Placed) -> None:
    generators = {"policy": placed.policy}
    router = await placed.cluster.router(RouterSpec(config=RIGHT, model=placed.model), generators)
    collector = await placed.cluster.collector(playing(placed.model), generators, router)
    await placed.cluster.release(collector, router)
    groups = await placed.collector.collect(REQUESTS)
    assert len(groups) == len(REQUESTS)


def _tokens(group: Any) -> list[tuple[int, ...]]:
    return [turn.completion.token_ids for member in group.rollouts for turn in member.turns]
