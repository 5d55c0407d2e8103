"""Scores answers to reasoning-gym tasks with the library's own verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from pydantic import Field, field_validator

from rlforge.errors import SetupError
from rlforge.rewards.config import ScorerConfig
from rlforge.rewards.python.scorer import PythonScorer
from rlforge.rewards.regex import compile_pattern
from rlforge.types import Rollout, Score


class ReasoningGymScorer:
    """The verifier that belongs to the task's dataset, in [0, 1]; tasks come from source `reasoning_gym`.

    Verifiers run in a process of their own, as a customer's function does: some of them evaluate what the model wrote.
    """

    class Config(ScorerConfig):
        """How the answer is found in a reply, and how verifiers are run."""

        type: str = "reasoning_gym"
        pattern: str | None = None
        """Regular expression whose first group is the answer; the last match counts, and a reply without one is worth
        0. Where not set, the text of the last `<answer>…</answer>`, or the whole reply when there is none."""
        workers: int = Field(1, ge=1)
        """Processes that verify side by side."""
        memory_bytes: int = Field(4 << 30, ge=256 << 20)
        """Memory that each process may allocate."""

        @field_validator("pattern")
        @classmethod
        def _has_group(cls, pattern: str | None) -> str | None:
            if pattern is not None and compile_pattern(pattern).groups < 1:
                raise ValueError(f"pattern {pattern!r} has no group; put the answer's part in parentheses")
            return pattern

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label
        self._verifier = PythonScorer(
            PythonScorer.Config.parse(
                {
                    "type": "python",
                    "name": config.label,
                    "function": "rlforge.rewards.reasoning_gym_answer:score",
                    "options": {"pattern": config.pattern},
                    "timeout_s": config.timeout_s,
                    "workers": config.workers,
                    "memory_bytes": config.memory_bytes,
                }
            )
        )

    async def start(self) -> None:
        """Start the processes, which import the library. Raises SetupError where it is not installed."""
        if find_spec("reasoning_gym") is None:
            raise SetupError("scorer 'reasoning_gym' needs the reasoning-gym library; `make setup` installs it")
        await self._verifier.start()

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout; a task that is not of reasoning-gym is left unscored."""
        return await self._verifier.score(rollouts)

    async def close(self) -> None:
        """Stop the processes."""
        await self._verifier.close()
