"""Trainer state beside a model: optimizer moments, random state and counters, without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlforge.errors import RunError

SCHEMA: Final = 1
TENSORS: Final = "trainer_state.tensors"
"""In the safetensors format, but not named so: vLLM takes every `*.safetensors` of a folder for weights."""
COUNTERS: Final = "trainer_state.json"

_RANDOM: Final = "random/cpu"
_MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerState:
    """Counters that a learner needs to go on."""

    step: int
    """Optimizer steps done in this stage."""
    total_steps: int
    """Steps the stage was to have."""
    phase: str
    """Phase of the schedule the next step belongs to: `warmup`, `constant` or `anneal`."""
    policy_version: int
    """Last published version."""
    seed: int


def write_state(
    directory: str, state: TrainerState, optimizer: torch.optim.Optimizer, names: dict[Tensor, str]
) -> None:
    """Write optimizer moments, torch's random state and `state`. `names` says what each parameter is called."""
    tensors: dict[str, Tensor] = {_RANDOM: torch.get_rng_state()}
    for parameter, moments in optimizer.state.items():
        tensors.update({f"{kind}/{names[parameter]}": moments[kind].contiguous() for kind in _MOMENTS if moments})
    save_file(tensors, str(Path(directory) / TENSORS), metadata={"schema": str(SCHEMA)})
    text = json.dumps({"schema": SCHEMA, **asdict(state)}, indent=2, sort_keys=True)
    (Path(directory) / COUNTERS).write_text(text + "\n", encoding="utf-8")


def read_state(directory: str, optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> TrainerState:
    """Put moments and random state back and return the counters. Raises RunError when the folder does not fit."""
    path = Path(directory) / COUNTERS
    if not path.is_file():
        raise RunError(f"'{directory}' holds no {COUNTERS}: a model to start from, not a checkpoint to resume")
    counters = json.loads(path.read_text(encoding="utf-8"))
    schema = counters.pop("schema", None)
    if schema != SCHEMA:
        raise RunError(f"'{path}' has schema {schema}; this version of rlforge reads {SCHEMA}")
    tensors = _read_tensors(Path(directory) / TENSORS)
    torch.set_rng_state(tensors.pop(_RANDOM))
    optimizer.state.clear()
    for parameter, name in names.items():
        moments = {kind: tensors.pop(f"{kind}/{name}") for kind in _MOMENTS if f"{kind}/{name}" in tensors}
        if moments:
            # `step` too: the fused AdamW counts on the parameter's device
            optimizer.state[parameter] = {kind: value.to(parameter.device) for kind, value in moments.items()}
    if tensors:
        raise RunError(f"'{directory}' holds optimizer state of another model: {', '.join(sorted(tensors)[:3])}, …")
    return TrainerState(**counters)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises RunError when another version of rlforge wrote them."""
    with safe_open(str(path), framework="pt") as file:
        schema = (file.metadata() or {}).get("schema", "1")  # the first version wrote none
        if schema != str(SCHEMA):
            raise RunError(f"'{path}' has schema {schema}; this version of rlforge reads {SCHEMA}")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
