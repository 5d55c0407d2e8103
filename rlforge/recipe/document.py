"""What a recipe can say."""

from collections import Counter
from typing import Annotated, Self, cast

import yaml
from pydantic import Field, field_validator, model_validator

from rlforge.cluster.config import ClusterConfig
from rlforge.config import BaseConfig, FileName, Part, PartConfig
from rlforge.learner.config import ModelInitConfig
from rlforge.loops.stage import StageConfig
from rlforge.orchestrators.environments import EnvironmentConfig
from rlforge.registry import GENERATORS, STAGES
from rlforge.rewards.router import Router
from rlforge.runlog.checkpoints import step_named
from rlforge.tokens.tokenizer import TokenizerConfig


class ModelConfig(BaseConfig):
    """The model a run starts from: one that exists, or one made from scratch."""

    path: str | None = None
    """Folder in Hugging Face layout, or a name on the hub, `Qwen/Qwen3-0.6B` for instance."""
    init: ModelInitConfig | None = None
    """Shape of a model made from scratch instead."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """Tokenizer made on the spot for a model from scratch; one that exists brings its own."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.path is None) == (self.init is None):
            raise ValueError("a model has either a 'path' (it exists) or an 'init' (made from scratch), exactly one")
        return self


class Recipe(BaseConfig):
    """A whole run: a model, the stages it goes through, and what they share."""

    name: FileName
    """Names the run folder."""
    seed: int = 0
    """Everything random in the run is derived from it."""
    model: ModelConfig
    """Where the run starts."""
    generators: dict[str, Annotated[PartConfig, Part(GENERATORS)]] = Field(
        default={"policy": "vllm"},  # pyright: ignore[reportArgumentType]  # validated into the part's Config
        validate_default=True,
    )
    """Who samples, by name; `policy` serves the model in training."""
    environments: dict[str, EnvironmentConfig] = Field(default_factory=lambda: dict[str, EnvironmentConfig]())
    """Environments by name: sources of type `environment` list their tasks, and `environment_loop` plays in them."""
    rewards: Router.Config | None = None
    """Scorers of rl stages and of evaluations; a stage may have its own."""
    cluster: ClusterConfig = ClusterConfig()
    """Where the parts run."""
    runs_dir: str = "runs"
    """Folder of the run folders. Like every path: relative to the recipe in the recipe, to where you are elsewhere."""
    stages: list[Annotated[PartConfig, Part(STAGES)]] = Field(min_length=1)
    """What is done, in order: `pretrain`, `sft`, `rl`."""

    @property
    def stage_list(self) -> list[StageConfig]:
        """The stages by the base class they share."""
        return cast(list[StageConfig], self.stages)

    def stage(self, name: str) -> StageConfig:
        """The stage of that name; KeyError when there is none."""
        return {stage.name: stage for stage in self.stage_list}[name]

    def steps_wanted(self, name: str) -> frozenset[int]:
        """Steps of a stage that others start from."""
        starts = [(stage.start_from or "").partition("/") for stage in self.stage_list]
        steps = (step_named(which) for stage, _, which in starts if stage == name)
        return frozenset(step for step in steps if step is not None)

    def yaml(self) -> str:
        """The whole recipe with every value, to be run again as it is."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)

    @field_validator("generators")
    @classmethod
    def _policy_is_named(cls, generators: dict[str, PartConfig]) -> dict[str, PartConfig]:
        if "policy" not in generators:
            raise ValueError(f"no generator is called 'policy'; known: {', '.join(generators) or 'none'}")
        return generators

    @field_validator("stages")
    @classmethod
    def _stages_are_sound(cls, stages: list[PartConfig]) -> list[PartConfig]:
        for stage in stages:
            if not isinstance(stage, StageConfig):
                raise ValueError(f"stage type '{stage.type}': its Config must derive from StageConfig (loops/stage.py)")
        counts = Counter(stage.name for stage in cast(list[StageConfig], stages))
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"two stages are called '{twice[0]}'; checkpoints go by that name, so give each its own")
        return stages
