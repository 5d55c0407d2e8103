"""GRPO: a rollout is compared with the other attempts at its task, and the policy moves within a clipped ratio."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from rlforge.algorithms.advantages import grpo
from rlforge.algorithms.group_credit import GroupConfig, credit_groups
from rlforge.types import Batch


class GRPO:
    """Group relative policy optimization (arXiv:2402.03300); with `std: false` and `constant_length`, Dr.GRPO."""

    min_group_size: ClassVar[int] = 2
    """A rollout alone has nothing to be compared with: its advantage is 0."""

    class Config(GroupConfig):
        """Settings of GRPO."""

        type: str = "grpo"
        """`grpo`."""
        std: bool = True
        """Divide advantages by the group's standard deviation. As shipped, so that the size of a step does not depend
        on the scale of your reward, and rare successes count more; false (Dr.GRPO) does not favour tasks that are
        nearly always or nearly never solved."""
        correction: Literal["clip", "token", "sequence"] = "clip"
        """How tokens sampled by an older policy (or by a generator that rounds differently) are corrected for: `clip`
        bounds the ratio as PPO does; `token` and `sequence` weigh by the truncated importance ratio, without a clip."""
        clip_low: float = Field(default=0.2, gt=0, le=1)
        """Under `clip`, the ratio counts down to 1 - clip_low where the advantage is negative."""
        clip_high: float = Field(default=0.28, gt=0)
        """Under `clip`, the ratio counts up to 1 + clip_high where the advantage is positive; above clip_low, so that
        improbable tokens can become probable (arXiv:2503.14476)."""
        dual_clip: float | None = Field(default=None, gt=1)
        """Under `clip`, bounds the loss of a negative advantage at this many times its size (3 is usual); null: off."""
        cap: float = Field(default=2.0, ge=1)
        """Under `token` and `sequence`, the largest importance weight."""

    def __init__(self, config: Config) -> None:
        self._config = config
        if config.correction == "clip":
            self._objective = config.objective(
                "ppo_clip", clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip
            )
        else:
            per_sequence = config.correction == "sequence"
            self._objective = config.objective("importance_sampling", cap=config.cap, per_sequence=per_sequence)

    @property
    def needs(self) -> frozenset[str]:
        """Reference logprobs when a KL term is asked for, else nothing."""
        return self._config.needs

    def credit(self, batch: Batch) -> Batch:
        """Advantages within each group, for the trajectories of objective `policy`; see `credit_groups`."""
        return credit_groups(batch, self._objective, partial(grpo, std=self._config.std), **self._config.how)
