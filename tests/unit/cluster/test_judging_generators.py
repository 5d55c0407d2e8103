"""A generator of the run is handed to the judge that names it, in either placement."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rlforge.cluster.config import ClusterConfig
from rlforge.cluster.specs import GeneratorSpec, RouterSpec
from rlforge.errors import ConfigError
from rlforge.generators.scripted import ScriptedGenerator
from rlforge.registry import CLUSTERS
from rlforge.rewards.router import Router
from tests.rollouts import rollout


@pytest.mark.parametrize("placement", ["in_process", pytest.param("ray", marks=pytest.mark.slow)])
async def test_named_generator_judges(placement: str, tiny_model: Callable[..., str]) -> None:
    model = tiny_model(context=4096)
    replies = {"policy": (), "judge": ((5, 6, 7),)}  # characters, but no verdict
    specs = {
        name: [
            GeneratorSpec(
                config=ScriptedGenerator.Config(replies=script, context=4096), model=model, seed=0, run_id="judging"
            )
        ]
        for name, script in replies.items()
    }
    scorer = {"type": "judge", "generator": "judge", "rubric": "is it right?", "max_tokens": 8}
    spec = RouterSpec(config=Router.Config.parse({"scorers": [scorer]}), model=model)
    assert spec.generators == {"judge"}
    cluster = CLUSTERS.load(placement)(ClusterConfig(type=placement), run_id="judging")
    await cluster.start()
    try:
        router = await cluster.router(spec, await cluster.generators(specs))
        (reward,) = await router.reward([rollout()])
        metrics = await router.metrics()
    finally:
        await cluster.close()
    assert (reward.value, reward.scores[0].error_kind) == (None, "malformed")
    assert metrics["scorer_judge/judge_tokens"] > 100


def test_generator_that_is_not_there_is_named() -> None:
    scorer = {"type": "judge", "generator": "jugde", "rubric": "is it right?"}
    with pytest.raises(ConfigError, match="names the generator 'jugde', but the run has: none"):
        RouterSpec(config=Router.Config.parse({"scorers": [scorer]}), model="nowhere").build()
