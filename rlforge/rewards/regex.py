"""Scores a rollout by whether a regular expression matches its last reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import regex
from pydantic import Field, field_validator, model_validator

from rlforge.rewards.config import ScorerConfig
from rlforge.types import Rollout, Score

ANSWER = "{answer}"
"""Stands for the task's reference answer inside a pattern, taken literally."""
_STAND_IN = "0" * len(ANSWER)
"""What takes its place where a pattern is only tried; as long, so that positions stay."""


class RegexScorer:
    """Value `on_match` where the pattern matches, else `on_no_match`; no pattern can hang it."""

    class Config(ScorerConfig):
        """A pattern in the syntax of the `regex` module; write flags inline, `(?i)` for instance."""

        type: str = "regex"
        pattern: str
        """What to look for. `{answer}` stands for the task's reference answer, taken literally."""
        full_match: bool = False
        """Whether the pattern must cover the whole reply instead of being found anywhere in it."""
        answer_group: int | str | None = None
        """Number or name of a group that must equal the reference answer, surrounding white space apart."""
        on_match: float = Field(1.0, allow_inf_nan=False)
        """Value of a reply that matches."""
        on_no_match: float = Field(0.0, allow_inf_nan=False)
        """Value of a reply that does not."""
        timeout_s: float = Field(1.0, gt=0, allow_inf_nan=False)
        """Seconds the match may take; a pattern that backtracks for longer leaves the rollout unscored."""
        attempts: int = Field(1, ge=1)
        """A match that timed out would time out again."""

        @field_validator("pattern")
        @classmethod
        def _compiles(cls, pattern: str) -> str:
            compile_pattern(pattern.replace(ANSWER, _STAND_IN))
            return pattern

        @model_validator(mode="after")
        def _has_group(self) -> RegexScorer.Config:
            compiled = compile_pattern(self.pattern.replace(ANSWER, _STAND_IN))
            group = self.answer_group
            missing = group not in compiled.groupindex if isinstance(group, str) else (group or 0) > compiled.groups
            if missing:
                raise ValueError(f"answer_group={group!r}: the pattern {self.pattern!r} has no such group")
            return self

        @property
        def needs_answer(self) -> bool:
            """Whether a task without a reference answer cannot be judged."""
            return ANSWER in self.pattern or self.answer_group is not None

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.label

    async def start(self) -> None:
        """Nothing to make ready."""

    async def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout. Matching runs in a thread that frees the interpreter: a slow pattern stops nobody."""
        return await asyncio.to_thread(lambda: [self._score(rollout) for rollout in rollouts])

    async def close(self) -> None:
        """Nothing to stop."""

    def _score(self, rollout: Rollout) -> Score:
        started = time.perf_counter()
        if self.config.needs_answer and rollout.task.answer is None:
            return self._unscored("no_answer", f"task '{rollout.task.id}' has no reference answer to compare with", 0.0)
        try:
            matched = self._matches(rollout.text, rollout.task.answer)
        except TimeoutError:
            why = f"pattern {self.config.pattern!r} timed out after {self.config.timeout_s:g} s"
            return self._unscored("timeout", why, time.perf_counter() - started)
        value = self.config.on_match if matched else self.config.on_no_match
        reason = "matched" if matched else "no match"
        return Score(scorer=self.name, value=value, components={}, reason=reason, seconds=time.perf_counter() - started)

    def _matches(self, text: str, answer: Any) -> bool:
        config = self.config
        pattern = compile_pattern(config.pattern.replace(ANSWER, regex.escape(str(answer))))
        find = pattern.fullmatch if config.full_match else pattern.search
        found = find(text, timeout=config.timeout_s, concurrent=True)
        if found is None:
            return False
        if config.answer_group is None:
            return True
        captured = found.group(config.answer_group)
        return captured is not None and captured.strip() == str(answer).strip()

    def _unscored(self, kind: str, reason: str, seconds: float) -> Score:
        return Score(scorer=self.name, error_kind=kind, reason=reason, seconds=seconds)


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> Any:
    """A compiled pattern, kept for the next call. Raises ValueError that names the position of what is wrong."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"pattern {pattern!r} does not compile: {error}") from error
