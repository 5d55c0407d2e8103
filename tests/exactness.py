"""What holds between a generator's calls and the trajectories that a learner is handed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import pytest

from rlforge.types import Completion, GenerateRequest, Trajectory

Call: TypeAlias = tuple[GenerateRequest, Completion]
"""What a generator was asked, and what it said."""
_NOT_HELD = "a prompt does not hold what was sampled before as it was sampled"


def learned_as_sampled(calls: Sequence[Call], handed: Sequence[Trajectory]) -> None:
    """Every completion is learned once, behind exactly the prompt it was sampled from, and nothing else is learned."""
    found = 0
    for request, completion in calls:
        start, end = len(request.prompt_ids), len(request.prompt_ids) + len(completion.token_ids)
        if start == end:
            continue
        lived = request.prompt_ids + completion.token_ids
        holders = [
            t for t in handed if tuple(t.token_ids[:end]) == lived and t.sampled[start:end].all() and t.length >= end
        ]
        assert len(holders) == 1, "a completion is not behind the prompt it was sampled from"
        assert holders[0].behaviour_logprobs is not None
        assert holders[0].policy_versions is not None
        assert holders[0].behaviour_logprobs[start:end].tolist() == pytest.approx(completion.logprobs)
        assert tuple(holders[0].policy_versions[start:end]) == completion.policy_versions
        found += end - start
    assert found == sum(int(t.sampled.sum()) for t in handed), "something is learned that was not sampled"
    assert sum(t.weight for t in handed) == pytest.approx(1.0 if handed else 0.0)


def kept_in_prompts(calls: Sequence[Call], thought: tuple[int, ...] = ()) -> None:
    """Each prompt goes on from the one before and what was sampled then, but for a `thought` at its beginning."""
    for (asked, said), (then, _) in pairwise(calls):
        lived = asked.prompt_ids + said.token_ids
        if then.prompt_ids[: len(lived)] != lived:
            assert thought, _NOT_HELD
            rest = said.token_ids[len(thought) :] if said.token_ids[: len(thought)] == thought else said.token_ids
            assert any(then.prompt_ids[at : at + len(rest)] == rest for at in range(len(then.prompt_ids))), _NOT_HELD
