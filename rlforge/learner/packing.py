"""Trajectories become packs: rows of tokens without padding in which a group's shared prompt is encoded once.

A pack is laid out as [shared prompts][completions of those prompts][other trajectories]. Tokens after the last wanted
prediction are never encoded: nothing reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlforge.learner.attention import Layout
from rlforge.learner.blocks import Family, layout, reads
from rlforge.types import Trajectory

Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unit:
    """What cannot be split over packs: one trajectory, or members of a group with their shared prompt."""

    members: Ints  # [n]
    """Indices of trajectories."""
    prompt: int
    """Leading tokens encoded once for all members; 0 when nothing is shared."""
    tokens: int
    """Tokens to encode."""
    longest: int
    """Encoded length of the longest member."""


@dataclass(frozen=True, slots=True)
class Pack:
    """One forward pass."""

    input_ids: Tensor  # [1, T] long
    position_ids: Tensor  # [1, T] long
    layout: Layout
    predictors: Tensor  # [N] long
    """Row of the pack whose hidden state predicts each wanted token."""
    targets: Tensor  # [N] long
    temperature: Tensor  # [N] float32
    wanted: Ints  # [N]
    """Where each wanted token stands in the batch's list of wanted tokens."""


@dataclass(frozen=True)
class Tokens:
    """All tokens of a batch end to end, and which of them are wanted (their logprob is asked for)."""

    trajectories: Sequence[Trajectory]
    everything: bool = False
    """Want every token but the first of each trajectory, not only the sampled ones."""
    lengths: Ints = field(init=False)  # [S]
    starts: Ints = field(init=False)  # [S]

    def __post_init__(self) -> None:
        lengths = np.array([trajectory.length for trajectory in self.trajectories], dtype=np.int64)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "starts", np.cumsum(lengths) - lengths)

    @cached_property
    def ids(self) -> Ints:
        """Token ids, [ΣT]."""
        return _concatenate([trajectory.token_ids for trajectory in self.trajectories], np.int64)

    @cached_property
    def positions(self) -> Ints:
        """Place of each token in its trajectory, [ΣT]."""
        return np.arange(self.ids.shape[0], dtype=np.int64) - np.repeat(self.starts, self.lengths)

    @cached_property
    def wanted(self) -> Ints:
        """Indices into `ids` of the wanted tokens, [N]."""
        if self.everything:
            return np.flatnonzero(self.positions > 0)
        sampled = _concatenate([trajectory.sampled for trajectory in self.trajectories], np.bool_)
        return np.flatnonzero(sampled & (self.positions > 0))

    @cached_property
    def owner(self) -> Ints:
        """Trajectory of each wanted token, [N]."""
        return np.searchsorted(self.starts + self.lengths, self.wanted, side="right")

    @cached_property
    def counts(self) -> Ints:
        """Wanted tokens of each trajectory, [S]."""
        return np.bincount(self.owner, minlength=len(self.trajectories))

    @cached_property
    def encoded(self) -> Ints:
        """Tokens of each trajectory that must be encoded: up to the one before its last wanted token, [S]."""
        encoded = np.zeros(len(self.trajectories), dtype=np.int64)
        np.maximum.at(encoded, self.owner, self.positions[self.wanted])
        return encoded

    @cached_property
    def temperature(self) -> NDArray[np.float32]:
        """Temperature of each trajectory, [S]."""
        return np.array([trajectory.temperature for trajectory in self.trajectories], dtype=np.float32)


def pack(tokens: Tokens, micro_batch_tokens: int) -> list[Pack]:
    """Packs of at most `micro_batch_tokens` encoded tokens (more where one trajectory alone has more).

    Every wanted token is in exactly one pack, all of a trajectory in the same. Units are sorted by length, so that the
    attention blocks of a pack are alike. Deterministic.
    """
    units = sorted(_units(tokens, micro_batch_tokens), key=lambda unit: (-unit.longest, int(unit.members[0])))
    bins: list[list[Unit]] = []
    space = 0
    for unit in units:
        if unit.tokens > space or not bins:
            bins.append([])
            space = micro_batch_tokens
        bins[-1].append(unit)
        space -= unit.tokens
    return [_lay_out(tokens, members) for members in bins]


def _units(tokens: Tokens, budget: int) -> list[Unit]:
    """Members of identical prompts together, others alone; trajectories without wanted tokens are left out."""
    by_prompt: dict[tuple[str, bytes], list[int]] = {}
    units: list[Unit] = []
    for index in np.flatnonzero(tokens.encoded).tolist():
        trajectory = tokens.trajectories[index]
        if trajectory.group and trajectory.prompt_length > 0:
            # The ids themselves are the key: members that say they share a prompt but do not are never merged.
            prompt = trajectory.token_ids[: trajectory.prompt_length].tobytes()
            by_prompt.setdefault((trajectory.group, prompt), []).append(index)
        else:
            units.append(_single(tokens, index))
    for members in by_prompt.values():
        units.extend(_shared(tokens, members, budget))
    return units


def _single(tokens: Tokens, index: int) -> Unit:
    length = int(tokens.encoded[index])
    return Unit(np.array([index], dtype=np.int64), 0, length, length)


def _shared(tokens: Tokens, members: list[int], budget: int) -> list[Unit]:
    """Members of one prompt, in units of at most `budget` tokens."""
    shared = tokens.trajectories[members[0]].prompt_length
    units: list[Unit] = []
    open_members: list[int] = []
    used = 0
    for index in members:
        own = max(0, int(tokens.encoded[index]) - shared)
        if open_members and used + own > budget:
            units.append(_unit(tokens, open_members, shared))
            open_members, used = [], 0
        used += own + (0 if open_members else shared)
        open_members.append(index)
    units.append(_unit(tokens, open_members, shared))
    return units


def _unit(tokens: Tokens, members: list[int], shared: int) -> Unit:
    if len(members) == 1:
        return _single(tokens, members[0])
    encoded = tokens.encoded[members]
    # A group whose wants all lie inside the prompt needs no more of it than the furthest want.
    prompt = min(shared, int(encoded.max()))
    own = int(np.maximum(encoded - prompt, 0).sum())
    return Unit(np.array(members, dtype=np.int64), prompt, prompt + own, int(encoded.max()))


def _lay_out(tokens: Tokens, units: list[Unit]) -> Pack:
    """Place the units' tokens in rows and say who predicts what."""
    shared = sorted((unit for unit in units if unit.prompt), key=lambda unit: -_prompt_reads(tokens, unit))
    alone = [unit for unit in units if not unit.prompt]
    members = np.concatenate([unit.members for unit in (*shared, *alone)])
    prompt = np.repeat([unit.prompt for unit in (*shared, *alone)], [len(unit.members) for unit in (*shared, *alone)])
    prompts = np.array([unit.prompt for unit in shared], dtype=np.int64)
    prompt_starts = np.cumsum(prompts) - prompts
    own = np.maximum(tokens.encoded[members] - prompt, 0)
    own_starts = int(prompts.sum()) + np.cumsum(own) - own
    member_prompt_starts = np.concatenate(
        [np.repeat(prompt_starts, [len(unit.members) for unit in shared]), np.zeros(len(alone), dtype=np.int64)]
    )
    firsts = np.array([unit.members[0] for unit in shared], dtype=np.int64)
    source = np.concatenate(
        [_ranges(tokens.starts[firsts], prompts), _ranges(tokens.starts[members] + prompt, own)]
    )  # [T] index into the batch's tokens
    wanted, predictors = _predictors(tokens, members, prompt, member_prompt_starts, own_starts)
    return Pack(
        input_ids=torch.from_numpy(tokens.ids[source])[None],
        position_ids=torch.from_numpy(tokens.positions[source])[None],
        layout=layout(_families(shared, prompt_starts, own_starts, own), int(source.shape[0])),
        predictors=torch.from_numpy(predictors),
        targets=torch.from_numpy(tokens.ids[tokens.wanted[wanted]]),
        temperature=torch.from_numpy(tokens.temperature[tokens.owner[wanted]]),
        wanted=wanted,
    )


def _prompt_reads(tokens: Tokens, unit: Unit) -> int:
    return reads(unit.prompt, np.maximum(tokens.encoded[unit.members] - unit.prompt, 0).tolist())


def _predictors(
    tokens: Tokens, members: Ints, prompt: Ints, prompt_starts: Ints, own_starts: Ints
) -> tuple[Ints, Ints]:
    """Wanted tokens of the members and the pack row that predicts each: the row of the token before it."""
    ends = np.cumsum(tokens.counts)
    wanted = _ranges((ends - tokens.counts)[members], tokens.counts[members])
    place = np.repeat(np.arange(members.shape[0]), tokens.counts[members])
    before = tokens.positions[tokens.wanted[wanted]] - 1
    in_prompt = before < prompt[place]
    rows = np.where(in_prompt, prompt_starts[place] + before, own_starts[place] + before - prompt[place])
    return wanted, rows


def _families(shared: list[Unit], prompt_starts: Ints, own_starts: Ints, own: Ints) -> list[Family]:
    families: list[Family] = []
    place = 0
    for unit, start in zip(shared, prompt_starts.tolist(), strict=True):
        part = slice(place, place + len(unit.members))
        families.append(Family(start, unit.prompt, own_starts[part].tolist(), own[part].tolist()))
        place = part.stop
    lone = zip(own_starts[place:].tolist(), own[place:].tolist(), strict=True)
    families.extend(Family(start, length, [], []) for start, length in lone)
    return families


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """`start, start+1, …` for each pair, end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.shape[0] else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)


def _concatenate(arrays: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
