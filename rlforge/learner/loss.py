"""The loss of one optimizer step: objectives, their weights over the whole step, and what they measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlforge.algorithms.objectives import TokenInputs, TokenLoss, kl_penalty, objective, reduction
from rlforge.errors import ConfigError, LearnerError
from rlforge.learner.packing import Ints, Pack, Tokens
from rlforge.types import Batch, Metrics, Trajectory

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Facts:
    """Per-token facts of the wanted tokens of a batch, [N] each; zero for a trajectory that lacks one."""

    behaviour: Floats
    advantages: Floats
    reference: Floats
    weight: Floats
    """Reduction weight of the token times its objective's coefficient."""


class StepLoss:
    """Sums the loss of a batch pack by pack; weights are those of the whole batch, so any split adds up the same."""

    def __init__(self, batch: Batch, tokens: Tokens, device: torch.device) -> None:
        self._trajectories = batch.trajectories
        self._tokens = tokens
        self._device = device
        self._names = list(batch.objectives)
        self._objectives = [batch.objectives[name] for name in self._names]
        self._objective_of = _objective_indices(batch, self._names)
        self._has = {
            name: _has(batch.trajectories, name) for name in ("behaviour_logprobs", "advantages", "reference_logprobs")
        }
        self._facts = _Facts(
            behaviour=_per_token(tokens, "behaviour_logprobs"),
            advantages=_per_token(tokens, "advantages"),
            reference=_per_token(tokens, "reference_logprobs"),
            weight=self._weights(),
        )
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._weight_sums: defaultdict[str, float] = defaultdict(float)
        self._mismatch = _Mismatch()

    def add(self, pack: Pack, logprobs: Tensor, entropy: Tensor) -> Tensor:
        """Loss of one pack (to call backward on). Raises LearnerError naming the rollouts whose loss is not finite."""
        owner = self._tokens.owner[pack.wanted]
        kinds = self._objective_of[owner]
        total = logprobs.new_zeros(())
        for kind in np.unique(kinds).tolist():
            places = np.flatnonzero(kinds == kind)
            total = total + self._objective_loss(kind, places, pack.wanted[places], logprobs, entropy)
        return total

    def metrics(self) -> Metrics:
        """Means over the packs added so far, weighted as the loss; `mismatch/…` over tokens."""
        means = {
            key: value if key == "learner/loss" else value / self._weight_sums[key]
            for key, value in self._sums.items()
            if key == "learner/loss" or self._weight_sums[key] > 0
        }
        return {**means, **self._mismatch.metrics()}

    def _weights(self) -> Floats:
        """Weight of each wanted token, [N]: each objective's reduction over its own trajectories of the whole step."""
        per_trajectory = np.zeros(len(self._trajectories), dtype=np.float32)
        weights = np.array([trajectory.weight for trajectory in self._trajectories], dtype=np.float64)
        for kind, term in enumerate(self._objectives):
            chosen = np.flatnonzero(self._objective_of == kind)
            if chosen.shape[0]:
                groups = _group_indices([self._trajectories[index] for index in chosen.tolist()])
                lengths = torch.from_numpy(self._tokens.counts[chosen])
                reduce = reduction(term.reduction)
                reduced = _with_options(
                    reduce, term.reduction_options, term.reduction, lengths, torch.from_numpy(weights[chosen]), groups
                )
                per_trajectory[chosen] = (reduced * term.coefficient).float().numpy()
        return per_trajectory[self._tokens.owner]

    def _objective_loss(self, kind: int, places: Ints, wanted: Ints, logprobs: Tensor, entropy: Tensor) -> Tensor:
        term, name = self._objectives[kind], self._names[kind]
        if places.shape[0] < logprobs.shape[0]:
            index = torch.from_numpy(places).to(self._device)
            logprobs, entropy = logprobs.index_select(0, index), entropy.index_select(0, index)
        inputs = self._inputs(kind, wanted, logprobs, entropy)
        result: TokenLoss = _with_options(objective(term.loss), term.options, term.loss, inputs)
        losses = result.loss
        if term.kl is not None and term.kl.coefficient:
            if inputs.reference_logprobs is None:
                raise LearnerError(
                    f"objective '{name}' has a KL term but its trajectories carry no reference logprobs; hint: "
                    "annotate the batch with needs={'reference_logprobs'}"
                )
            losses = losses + term.kl.coefficient * kl_penalty(term.kl.kind, logprobs, inputs.reference_logprobs)
        weight = self._tensor(self._facts.weight, wanted)
        self._refuse_non_finite(losses, wanted, name)
        total = (losses * weight).sum()
        self._measure(inputs, result.stats, weight.double(), float(total.detach()))
        return total

    def _inputs(self, kind: int, wanted: Ints, logprobs: Tensor, entropy: Tensor) -> TokenInputs:
        owner = self._tokens.owner[wanted]
        sequence = np.cumsum(np.concatenate([[False], owner[1:] != owner[:-1]]))
        mine = self._objective_of == kind

        def fact(name: str, values: Floats) -> Tensor | None:
            return self._tensor(values, wanted) if bool(self._has[name][mine].all()) else None

        return TokenInputs(
            logprobs=logprobs,
            sequence=torch.from_numpy(sequence).to(self._device),
            behaviour_logprobs=fact("behaviour_logprobs", self._facts.behaviour),
            advantages=fact("advantages", self._facts.advantages),
            reference_logprobs=fact("reference_logprobs", self._facts.reference),
            entropy=entropy,
        )

    def _measure(self, inputs: TokenInputs, stats: Mapping[str, Tensor], weight: Tensor, loss: float) -> None:
        logprobs = inputs.logprobs.detach()
        self._sums["learner/loss"] += loss
        measured = {f"policy/{name}": value for name, value in stats.items()}
        if inputs.entropy is not None:
            measured["policy/entropy"] = inputs.entropy.detach()
        if inputs.reference_logprobs is not None:
            measured["policy/kl_reference"] = kl_penalty("k3", logprobs, inputs.reference_logprobs)
        if inputs.behaviour_logprobs is not None:
            self._mismatch.add(logprobs, inputs.behaviour_logprobs)
        weight_sum = float(weight.sum())
        for key, value in measured.items():
            self._sums[key] += float(weight @ value.double())
            self._weight_sums[key] += weight_sum

    def _refuse_non_finite(self, losses: Tensor, wanted: Ints, name: str) -> None:
        finite = torch.isfinite(losses.detach())
        if bool(finite.all()):
            return
        guilty = np.unique(self._tokens.owner[wanted[(~finite).cpu().numpy()]])
        rollouts = sorted({label(self._trajectories[index], index) for index in guilty.tolist()})
        raise LearnerError(f"the loss of objective '{name}' is not finite on {', '.join(rollouts)}")

    def _tensor(self, values: Floats, wanted: Ints) -> Tensor:
        return torch.from_numpy(values[wanted]).to(self._device)


class _Mismatch:
    """How far the learner's logprobs are from those the generator reported, over tokens. d = learner − generator."""

    def __init__(self) -> None:
        self._tokens = 0
        self._sums = np.zeros(4)  # |d|, k3, ratio, ratio²
        self._largest = 0.0

    def add(self, logprobs: Tensor, behaviour: Tensor) -> None:
        if not logprobs.shape[0]:
            return
        distance = (logprobs - behaviour).double().cpu().numpy()
        ratio = np.exp(np.clip(distance, -20.0, 20.0))
        self._tokens += distance.shape[0]
        self._sums += np.array(
            [np.abs(distance).sum(), (ratio - 1.0 - distance).sum(), ratio.sum(), np.square(ratio).sum()]
        )
        self._largest = max(self._largest, float(np.abs(distance).max()))

    def metrics(self) -> Metrics:
        if not self._tokens:
            return {}
        absolute, k3, ratios, squares = self._sums.tolist()
        return {
            "mismatch/logprob_mean_abs": absolute / self._tokens,
            "mismatch/logprob_max_abs": self._largest,
            "mismatch/kl_k3": k3 / self._tokens,
            "mismatch/ess": ratios * ratios / (squares * self._tokens),
        }


def label(trajectory: Trajectory, index: int) -> str:
    """How an error names a trajectory."""
    return f"rollout '{trajectory.rollout}'" if trajectory.rollout else f"trajectory {index} of the batch"


def _objective_indices(batch: Batch, names: list[str]) -> Ints:
    index = {name: place for place, name in enumerate(names)}
    for number, trajectory in enumerate(batch.trajectories):
        if trajectory.objective not in index:
            raise LearnerError(
                f"{label(trajectory, number)} names objective '{trajectory.objective}', which the batch does not "
                f"define. Known: {', '.join(names) or 'none'}"
            )
    return np.array([index[trajectory.objective] for trajectory in batch.trajectories], dtype=np.int64)


def _group_indices(trajectories: list[Trajectory]) -> Tensor:
    """Index of each trajectory's group; one without a group is a group alone."""
    names: dict[tuple[str, int], int] = {}
    keys = [(t.group, -1) if t.group else ("", number) for number, t in enumerate(trajectories)]
    return torch.tensor([names.setdefault(key, len(names)) for key in keys], dtype=torch.long)


def _has(trajectories: tuple[Trajectory, ...], name: str) -> NDArray[np.bool_]:
    return np.array([getattr(trajectory, name) is not None for trajectory in trajectories], dtype=np.bool_)


def _per_token(tokens: Tokens, name: str) -> Floats:
    """A per-token array of every trajectory at the wanted tokens, [N]; zeros where a trajectory has none."""
    values: list[Floats | None] = [getattr(trajectory, name) for trajectory in tokens.trajectories]
    if all(value is None for value in values):
        return np.zeros(tokens.wanted.shape[0], dtype=np.float32)
    pairs = zip(values, tokens.lengths.tolist(), strict=True)
    parts = [np.zeros(length, dtype=np.float32) if value is None else value for value, length in pairs]
    return np.concatenate(parts).astype(np.float32, copy=False)[tokens.wanted]


def _with_options(function: Any, options: Mapping[str, float], name: str, *inputs: object) -> Any:
    """Call with a recipe's options; a wrong option is a configuration error, not a traceback."""
    try:
        signature(function).bind(*inputs, **options)
    except TypeError as error:
        raise ConfigError(f"'{name}' does not accept options {dict(options)}: {error}") from error
    return function(*inputs, **options)
