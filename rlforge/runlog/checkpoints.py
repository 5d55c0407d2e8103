"""checkpoints/<stage>/step_000123/: named, whole, and carrying where in its schedule the stage was.

`final`, `best` and `before_anneal` are links beside the steps, so that `checkpoints/sft/final` opens in transformers as
it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlforge.errors import RunError
from rlforge.registry import suggest
from rlforge.runlog import schema
from rlforge.runlog.atomic import atomic_folder, discard, link
from rlforge.types import Metrics

_STEP = re.compile(r"step_(\d+)")
_META = "meta.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A whole checkpoint and what its meta.json says."""

    path: Path
    stage: str
    step: int
    phase: str
    """Phase of the learning-rate schedule that the next step belongs to: `warmup`, `constant`, `anneal`; or `done`."""
    policy_version: int
    metrics: Metrics = field(default_factory=lambda: dict[str, float]())
    state: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """What the loop needs to go on: position in the task stream and the like."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def write(
        self,
        stage: str,
        step: int,
        *,
        phase: str,
        policy_version: int,
        metrics: Mapping[str, float] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> Generator[Path]:
        """Give a folder to save into; it becomes `step_…` when the body ends well and never exists half-written."""
        meta = {
            "schema": schema.CHECKPOINT,
            "stage": stage,
            "step": step,
            "phase": phase,
            "policy_version": policy_version,
            "metrics": dict(metrics or {}),
            "state": dict(state or {}),
        }
        folder = self._folder(stage)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder / f"step_{step:06d}") as temporary:
            yield temporary
            (temporary / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def list(self, stage: str) -> list[Checkpoint]:
        """Whole checkpoints of a stage, oldest first."""
        folder = self._folder(stage)
        found = [path for path in folder.glob("step_*") if _STEP.fullmatch(path.name) and not path.is_symlink()]
        return sorted((read_checkpoint(path) for path in found), key=lambda checkpoint: checkpoint.step)

    def latest(self, stage: str) -> Checkpoint | None:
        """The newest checkpoint of a stage, None when there is none."""
        every = self.list(stage)
        return every[-1] if every else None

    def mark(self, stage: str, name: str, step: int) -> Path:
        """Let `<stage>/<name>` (`final`, `best`, …) point at the checkpoint of `step`; marked ones are never pruned."""
        folder = self._folder(stage)
        target = f"step_{step:06d}"
        if not (folder / target).is_dir():
            raise RunError(f"cannot mark {folder / target} as '{name}': there is no such checkpoint")
        link(folder / name, target)
        return folder / name

    def marked(self, stage: str, name: str) -> Checkpoint | None:
        """The checkpoint that a mark points at, None without one."""
        path = self._folder(stage) / name
        return read_checkpoint(path) if path.exists() else None

    def prune(self, stage: str, keep_last: int, wanted: Collection[int] = ()) -> list[int]:
        """Remove all but the newest `keep_last`, the marked ones and the wanted steps; returns the steps that went."""
        folder = self._folder(stage)
        marked = {path.resolve() for path in folder.iterdir() if path.is_symlink()} if folder.is_dir() else set[Path]()
        every = self.list(stage)
        old = every[: max(0, len(every) - keep_last)]
        doomed = [c for c in old if c.step not in wanted and c.path.resolve() not in marked]
        for checkpoint in doomed:
            discard(checkpoint.path)
        return [checkpoint.step for checkpoint in doomed]

    def remove_after(self, stage: str, step: int) -> list[int]:
        """Remove checkpoints of a stage beyond `step`, with the marks on them; returns the steps that went."""
        doomed = [checkpoint for checkpoint in self.list(stage) if checkpoint.step > step]
        for checkpoint in doomed:
            self._unmark(checkpoint.path)
            discard(checkpoint.path)
        return [checkpoint.step for checkpoint in doomed]

    def resolve(self, name: str) -> Checkpoint:
        """`sft` (its final or else newest), `sft/final`, `sft/best`, `sft/120`, `sft/step_000120`. Raises RunError."""
        stage, _, which = name.partition("/")
        if not (self.root / stage).is_dir():
            stages = self.stages()
            raise RunError(
                f"there is no checkpoint '{name}' in {self.root}: no stage '{stage}'. "
                f"{suggest(stage, stages)}Stages with checkpoints: {', '.join(stages) or 'none'}"
            )
        found = self._newest(stage) if not which else self._named(stage, which)
        if found is None:
            known = ", ".join(sorted(path.name for path in (self.root / stage).glob("[!.]*"))) or "none"
            raise RunError(f"there is no checkpoint '{name}' in {self.root}. Known for '{stage}': {known}")
        return found

    def stages(self) -> list[str]:
        """Stages that have a folder of checkpoints."""
        return sorted(path.name for path in self.root.glob("[!.]*") if path.is_dir()) if self.root.is_dir() else []

    def _newest(self, stage: str) -> Checkpoint | None:
        return self.marked(stage, "final") or self.latest(stage)

    def _named(self, stage: str, which: str) -> Checkpoint | None:
        step = step_named(which)
        return self.marked(stage, which if step is None else f"step_{step:06d}")

    def _unmark(self, target: Path) -> None:
        for path in target.parent.iterdir():
            if path.is_symlink() and path.resolve() == target.resolve():
                path.unlink()

    def _folder(self, stage: str) -> Path:
        return self.root / stage


def step_named(which: str) -> int | None:
    """The step that `120` or `step_000120` names; None for a mark, such as `final`."""
    match = _STEP.fullmatch(which)
    return int(match.group(1) if match else which) if match or which.isdecimal() else None


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint folder, links followed. Raises RunError when it is not one of ours."""
    meta_path = path / _META
    if not meta_path.is_file():
        raise RunError(f"{path} is no rlforge checkpoint: it has no {_META}")
    meta = json.loads(meta_path.read_text(encoding="utf-8"))
    schema.check_schema(meta.get("schema"), schema.CHECKPOINT, meta_path)
    return Checkpoint(
        path=path.resolve(),
        stage=meta["stage"],
        step=meta["step"],
        phase=meta["phase"],
        policy_version=meta["policy_version"],
        metrics=meta["metrics"],
        state=meta["state"],
    )
