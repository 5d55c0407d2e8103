"""One run, one folder: creates it, opens it, and gives each kind of file its place."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlforge.errors import RunError
from rlforge.runlog import schema
from rlforge.runlog.activity import ActivityFile
from rlforge.runlog.atomic import sweep, write_text
from rlforge.runlog.checkpoints import Checkpoint, Checkpoints
from rlforge.runlog.evaluations import TaskResult, read_results, write_results
from rlforge.runlog.events import EventLog
from rlforge.runlog.metrics import MetricsLog
from rlforge.runlog.progress import RunResult, StageResult
from rlforge.runlog.rollouts import read_rollouts, write_rollouts
from rlforge.types import Group, Rollout

_LOCK_PATIENCE_S = 3.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RunFolder:
    """The files of one run. `create` and `resume` give the run's one writer; `open` gives a reader.

    Example:
        folder = RunFolder.create(Path("runs/add-1"), recipe_yaml)
        folder.metrics.append("grpo", 1, {"reward/mean": 0.25})
        with folder.checkpoint("grpo", 1, phase="constant", policy_version=1) as path:
            await learner.save(str(path))
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.metrics = MetricsLog(self.path / "metrics.jsonl")
        self.events = EventLog(self.path / "events.jsonl")
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.activity = ActivityFile(self.path / "activity.json")
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path, recipe: str) -> RunFolder:
        """A new folder for a resolved recipe (YAML text). Raises RunError when there is a run already."""
        folder = cls(path)
        if folder._identity.exists():
            raise RunError(
                f"{path} holds a run already; go on with `rlforge train --resume {path}` or name another folder"
            )
        folder.path.mkdir(parents=True, exist_ok=True)
        folder._take()
        write_text(folder.recipe_path, recipe)
        write_text(folder._identity, json.dumps({"schema": schema.RUN, "created": time.time()}))
        folder.events.append("started", "the run was created", pid=os.getpid())
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run to read, finished or going on; nothing is changed. Raises RunError when there is none."""
        folder = cls(path)
        if not folder._identity.is_file():
            raise RunError(
                f"{path} is no run folder (it has no {folder._identity.name}); `rlforge runs list` shows the runs"
            )
        schema.check_schema(json.loads(folder._identity.read_text()).get("schema"), schema.RUN, folder._identity)
        return folder

    @classmethod
    def resume(cls, path: Path) -> RunFolder:
        """A run to go on with: what a killed writer left half-done is removed and told in the events."""
        folder = cls.open(path)
        folder._take()
        torn = folder.events.repair()
        swept = [str(left.relative_to(folder.path)) for left in sweep(folder.path)]
        folder.events.append("resumed", "the run goes on", pid=os.getpid())
        if swept:
            folder.events.append("swept", "removed what a killed writer left half-written", paths=swept)
        torn += folder.metrics.repair()
        if torn:
            folder.events.append("torn_line", "cut off a half-written last line", bytes=torn)
        return folder

    def close(self) -> None:
        """Let another process write to the run. May be called twice."""
        self.activity.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- places ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe: complete and re-runnable."""
        return self.path / "recipe.yaml"

    @property
    def log_path(self) -> Path:
        """What the run printed."""
        return self.path / "run.log"

    @property
    def created(self) -> float:
        """Seconds since 1970."""
        return float(json.loads(self._identity.read_text())["created"])

    @property
    def status(self) -> str:
        """`running`, `finished`, `interrupted` (checkpointed on request), or `stopped` (it died or was killed)."""
        if self._written_elsewhere():
            return "running"
        result = self.result()
        if result is None:
            return "stopped"
        return "interrupted" if result.interrupted else "finished"

    @property
    def _identity(self) -> Path:
        return self.path / "run.json"

    @property
    def _result_path(self) -> Path:
        return self.path / "result.json"

    # --- rollouts and evaluations ------------------------------------------------------------------------------

    def write_rollouts(self, stage: str, step: int, groups: Iterable[Group]) -> int:
        """Keep every rollout of a step; returns how many rows were written."""
        return write_rollouts(self._place("rollouts", _checked(stage), step), groups)

    def rollouts(self, stage: str, step: int) -> list[Rollout]:
        """The rollouts of a step. Raises RunError when they are not there."""
        return read_rollouts(self._place("rollouts", stage, step))

    def rollout_steps(self, stage: str) -> list[int]:
        """Steps of a stage whose rollouts are kept."""
        pattern = re.compile(rf"{re.escape(stage)}-(\d+)\.parquet")
        matches = (pattern.fullmatch(path.name) for path in (self.path / "rollouts").glob("*.parquet"))
        return sorted(int(match.group(1)) for match in matches if match)

    def write_evaluation(self, stage: str, step: int, name: str, results: Sequence[TaskResult]) -> None:
        """Keep what became of each task of an evaluation."""
        write_results(self._place("evaluations", _checked(stage), step, f"-{_checked(name)}"), results)

    def evaluation(self, stage: str, step: int, name: str) -> list[TaskResult]:
        """What became of each task of an evaluation. Raises RunError when it is not there."""
        return read_results(self._place("evaluations", stage, step, f"-{name}"))

    def _place(self, kind: str, stage: str, step: int, suffix: str = "") -> Path:
        folder = self.path / kind
        folder.mkdir(exist_ok=True)
        return folder / f"{stage}-{step:06d}{suffix}.parquet"

    # --- checkpoints and going back ----------------------------------------------------------------------------

    @contextmanager
    def checkpoint(
        self,
        stage: str,
        step: int,
        *,
        phase: str = "",
        policy_version: int = 0,
        metrics: Mapping[str, float] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> Generator[Path]:
        """Give a folder to save into; see `Checkpoints.write`."""
        with self.checkpoints.write(
            _checked(stage), step, phase=phase, policy_version=policy_version, metrics=metrics, state=state
        ) as path:
            yield path

    def latest(self, stage: str) -> Checkpoint | None:
        """The newest whole checkpoint of a stage."""
        return self.checkpoints.latest(stage)

    def resolve(self, name: str) -> Checkpoint:
        """A checkpoint by name, see `Checkpoints.resolve`."""
        return self.checkpoints.resolve(name)

    def rewind(self, stage: str, step: int) -> None:
        """Forget metrics, rollouts, evaluations and checkpoints of `stage` after `step`: they will be made again."""
        lines = self.metrics.truncate_after(stage, step)
        removed = self.checkpoints.remove_after(stage, step)
        # six digits at least, as `_place` writes them: those of a stage named `<stage>-1` are not ours
        pattern = re.compile(rf"{re.escape(stage)}-(\d{{6,}})(-.+)?\.parquet")
        for path in (*(self.path / "rollouts").glob("*"), *(self.path / "evaluations").glob("*")):
            match = pattern.fullmatch(path.name)
            if match and int(match.group(1)) > step:
                path.unlink()
        self._result_path.unlink(missing_ok=True)
        if lines or removed:
            self.events.append(
                "rewound",
                f"went back to step {step} of '{stage}'",
                stage=stage,
                step=step,
                lines=lines,
                checkpoints=removed,
            )

    # --- the end -----------------------------------------------------------------------------------------------

    def write_result(self, result: RunResult) -> None:
        """Say how the run ended."""
        write_text(self._result_path, json.dumps({"schema": schema.RUN, **asdict(result)}, indent=1))
        self.events.append("interrupted" if result.interrupted else "finished", f"after {result.seconds:.0f} s")

    def result(self) -> RunResult | None:
        """How the run ended; None while it has not."""
        if not self._result_path.exists():
            return None
        data = json.loads(self._result_path.read_text())
        schema.check_schema(data.pop("schema", None), schema.RUN, self._result_path)
        data["stages"] = tuple(StageResult(**stage) for stage in data["stages"])
        return RunResult(**data)

    # --- one writer --------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Be the one writer. The lock ends with the process, however it ends."""
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        if not _locked(lock):
            writer = os.read(lock, 32).decode() or "unknown"
            os.close(lock)
            raise RunError(f"{self.path} is being written by process {writer}; wait for it or end it first")
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock

    def _written_elsewhere(self) -> bool:
        if self._lock is not None:
            return True
        try:
            lock = os.open(self.path / ".lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False


def _locked(lock: int) -> bool:
    """Take the lock, within the seconds that the children of a killed writer may take to follow it."""
    patience = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > patience:
                return False
            time.sleep(0.05)
        else:
            return True


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RunError(f"'{name}' cannot be part of a file name; use letters, digits, '_', '.' and '-'")
    return name
