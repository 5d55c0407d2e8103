"""What every generator can be told."""

from __future__ import annotations

from pydantic import Field

from rlforge.config import PartConfig


class GeneratorConfig(PartConfig):
    """Settings that hold for any kind of generator."""

    replicas: int = Field(default=1, ge=1)
    """How many copies serve the model; requests go to the least loaded."""
    context: int | None = Field(default=None, ge=2)
    """Longest prompt and completion together, in tokens; unset: what the model was made for."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one replica's computation; two parts that compete for a core slow each other many times."""
    start_deadline_s: float = Field(default=600.0, gt=0)
    """Seconds the start may take."""
    generate_deadline_s: float = Field(default=1800.0, gt=0)
    """Seconds one completion may take, waiting in the queue included."""
    load_deadline_s: float = Field(default=300.0, gt=0)
    """Seconds a swap of weights may take."""
    close_deadline_s: float = Field(default=20.0, gt=0)
    """Seconds the end may take before it is forced."""
