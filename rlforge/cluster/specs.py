"""How each part of a run is made: small values that travel to the process where the part will live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlforge.config import PartConfig, build
from rlforge.generators.config import GeneratorConfig
from rlforge.interfaces import Generator, Learner, RewardRouter, RolloutWorker
from rlforge.learner.config import LearnerConfig
from rlforge.loops.collect import GroupPlayer
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.registry import GENERATORS, ORCHESTRATORS, WEIGHT_CHANNELS
from rlforge.rewards.router import Router, named_generator
from rlforge.tokens.renderer import ChatRenderer


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorSpec:
    """One replica of a named model."""

    config: GeneratorConfig
    model: str
    """Folder in Hugging Face layout."""
    seed: int
    run_id: str

    def build(self) -> Generator:
        """The generator, not yet started."""
        return build(GENERATORS, self.config, model=self.model, seed=self.seed, run_id=self.run_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSpec:
    """The learner of a stage."""

    config: LearnerConfig
    model: str
    seed: int
    run_id: str
    total_steps: int
    channel: str = "shared_memory"

    def build(self) -> Learner:
        """The learner, not yet started, with the sending end of its weight channel."""
        # Imported here because the driver, which only sends this value, needs no torch model code.
        from rlforge.learner.learner import TorchLearner

        channel = WEIGHT_CHANNELS.load(self.channel)(run_id=self.run_id)
        return TorchLearner(
            self.config, model=self.model, seed=self.seed, channel=channel, total_steps=self.total_steps
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterSpec:
    """The reward router of a stage."""

    config: Router.Config
    model: str = ""
    """Folder of the model that named generators serve."""

    def build(self, generators: Mapping[str, Generator] | None = None) -> RewardRouter:
        """The router, not yet started, over generators that may live elsewhere."""
        router = Router(self.config)
        router.use(generators or {}, lambda: ChatRenderer.from_folder(self.model))
        return router

    @property
    def generators(self) -> frozenset[str]:
        """Names of the generators that its scorers judge with."""
        return frozenset(filter(None, map(named_generator, self.config.parts)))


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """A rollout worker: an orchestrator over the model's chat template."""

    orchestrator: PartConfig
    model: str
    environments: Mapping[str, EnvironmentConfig] = field(default_factory=lambda: dict[str, EnvironmentConfig]())
    """Those of the recipe, for an orchestrator that plays in them."""

    def build(self, generators: Mapping[str, Generator], router: RewardRouter) -> RolloutWorker:
        """The worker, over generators and a router that may live elsewhere."""
        renderer = ChatRenderer.from_folder(self.model)
        orchestrator: Any = build(
            ORCHESTRATORS,
            self.orchestrator,
            offered={"environments": self.environments},
            generate=generators["policy"].generate,
            renderer=renderer,
        )
        return GroupPlayer(orchestrator, router)
