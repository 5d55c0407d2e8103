"""RLOO: REINFORCE whose baseline is the mean reward of the other attempts at the same task."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rlforge.algorithms.advantages import rloo
from rlforge.algorithms.group_credit import GroupConfig, credit_groups
from rlforge.types import Batch


class RLOO:
    """REINFORCE leave-one-out (arXiv:2402.14740): unbiased, nothing divided by, nothing clipped on-policy."""

    min_group_size: ClassVar[int] = 2
    """A rollout alone has no others to take a baseline from: its advantage is 0."""

    class Config(GroupConfig):
        """Settings of RLOO."""

        type: str = "rloo"
        """`rloo`."""
        correction: Literal["token", "sequence"] = "token"
        """Whether the importance weight of what an older policy sampled is taken per token or per trajectory."""
        cap: float = Field(default=2.0, ge=1)
        """The largest importance weight; on-policy all weights are 1."""

    def __init__(self, config: Config) -> None:
        self._config = config
        per_sequence = config.correction == "sequence"
        self._objective = config.objective("importance_sampling", cap=config.cap, per_sequence=per_sequence)

    @property
    def needs(self) -> frozenset[str]:
        """Reference logprobs when a KL term is asked for, else nothing."""
        return self._config.needs

    def credit(self, batch: Batch) -> Batch:
        """Advantages within each group, for the trajectories of objective `policy`; see `credit_groups`."""
        return credit_groups(batch, self._objective, rloo, **self._config.how)
