"""Where the parts of a run live."""

from typing import Literal

from pydantic import Field

from rlforge.config import BaseConfig


class ClusterConfig(BaseConfig):
    """Placement of generators, learner, rollout workers and reward router."""

    type: Literal["ray", "in_process"] = "ray"
    """`ray` puts each part in an actor of its own; `in_process` runs all in one process, for tests and debugging."""
    address: str | None = None
    """Ray cluster to attach to (`auto`, `host:6379`); unset: a private one on loopback, taken down at the end."""
    rollout_workers: int = Field(default=1, ge=1)
    """Processes that play rollouts, each many at once."""
    start_deadline_s: float = Field(default=300.0, gt=0)
    """Seconds Ray may take to start, and then each part."""
    step_deadline_s: float = Field(default=1800.0, gt=0)
    """Seconds any single request to a part may take once it runs."""
    object_store_mb: int = Field(default=256, ge=80)
    """Shared memory Ray may use for objects in flight, on a cluster started here."""
