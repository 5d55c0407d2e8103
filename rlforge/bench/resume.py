"""Kill the driver with `kill -9` in every part of a step, go on, and compare with a run that was left alone.

The killer is an outsider: it reads what the run folder says is going on (`activity.json`) and sends the signal. After
each kill the run goes on with `rlforge train --resume`, until the next; what it saves must have the bytes that the
uninterrupted run saved, and its ledger every task once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from rlforge.bench.runner import BenchResult
from rlforge.data.ledger import Ledger
from rlforge.errors import DeadlineExceeded, RunError
from rlforge.runlog.folder import RunFolder

STAGE = "grpo"
STEPS = 34
GROUPS = 6
"""Groups of a step."""
CHECKPOINT_EVERY = 2
SCORING = "scoring"
"""File that the reward function touches: rollouts are scored while others are still generated."""

RECIPE = f"""\
name: tiny
seed: 7
runs_dir: runs
model:
  init: {{architecture: qwen3, hidden_size: 64, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 128, context: 96}}
  tokenizer: {{type: character}}
generators:
  policy: {{type: vllm, threads: 1, kv_cache_gb: 0.1, max_sequences: 32}}
rewards:
  scorers: [{{type: python, function: files.py:digits, workers: 1}}]
cluster: {{object_store_mb: 80}}
stages:
  - type: rl
    name: {STAGE}
    data: [{{type: python, function: files.py:sums, splits: &splits {{train: 0.9, held_out: 0.1}}, split: train}}]
    steps: {STEPS}
    groups_per_step: {GROUPS}
    group_size: 4
    sampling: {{max_new_tokens: 48}}
    algorithm: grpo
    learner: {{lr: 5.0e-4, threads: 1}}
    evaluations:
      - {{name: held_out, data: [{{type: python, function: files.py:sums, splits: *splits, split: held_out}}], every: 3,
         limit: 8, max_new_tokens: 8}}
    checkpoint_every: {CHECKPOINT_EVERY}
    keep_last: 1000
"""
FILES = f'''\
from pathlib import Path

def sums():
    for left in range(10, 40):
        for right in range(10, 20):
            yield {{"id": f"{{left}}+{{right}}", "prompt": f"{{left}}+{{right}}=", "answer": str(left + right)}}

def digits(rollout):
    Path(__file__).with_name("{SCORING}").touch()
    return sum(letter.isdigit() for letter in rollout.text) / max(1, len(rollout.text))
'''

PHASES = {
    "generation": ("collect",),
    "scoring": ("collect",),
    "optimizer": ("learn",),
    "publish": ("publish", "load"),
    "checkpoint": ("checkpoint",),
}
"""Where to kill, and what `activity.json` says there."""
_START_S = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """What became of one `kill -9`."""

    phase: str
    step: int
    doing: str
    """What the run folder says the driver was doing when it died."""
    identical: bool = False
    """Whether the first checkpoint after it has the bytes of the uninterrupted run's."""

    @property
    def hit(self) -> bool:
        """Whether the driver died where it was meant to."""
        return self.doing in PHASES[self.phase]

    @property
    def survived(self) -> bool:
        """Whether it hit, and the run went on as if it had not."""
        return self.hit and self.identical


class Trial:
    """A folder with the tiny recipe, and runs of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(RECIPE)
        (folder / "files.py").write_text(FILES)

    def run(self, name: str) -> RunFolder:
        """The run of that name."""
        return RunFolder(self.folder / "runs" / name)

    def start(self, name: str, *overrides: str) -> subprocess.Popen[bytes]:
        """Start a run, or go on with it when it is there. Its output goes to `<name>.log`."""
        there = (self.run(name).path / "run.json").exists()
        arguments = ["--resume", str(self.run(name).path)] if there else ["recipe.yaml", f"name={name}", *overrides]
        command = [str(Path(sys.executable).with_name("rlforge")), "train", *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def finish(self, name: str, *overrides: str) -> RunFolder:
        """Run to the end. Raises RunError when it does not get there."""
        status = self.start(name, *overrides).wait(timeout=_START_S)
        if status != 0:
            raise RunError(f"the run '{name}' ended with status {status}:\n{self.log(name)}")
        return self.run(name)

    def kill(self, name: str, phase: str, step: int, *overrides: str) -> Kill:
        """Start the run or go on with it, and kill its driver in `phase`, at `step` or as soon after it as it can be.

        Raises RunError when the run ends before.
        """
        return self.strike(self.start(name, *overrides), name, phase, step)

    def strike(self, driver: subprocess.Popen[bytes], name: str, phase: str, step: int) -> Kill:
        """Kill a driver that runs already."""
        (self.folder / SCORING).unlink(missing_ok=True)
        born = psutil.Process(driver.pid).create_time()
        try:
            self._wait_for(driver, name, phase, step, born)
            while not self._held(driver, name, phase, step, born):
                driver.send_signal(signal.SIGCONT)
                self._wait_for(driver, name, phase, step, born)
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
        died = self.run(name).activity.read()
        assert died is not None
        return Kill(phase=phase, step=died.step, doing=died.doing)

    def log(self, name: str) -> str:
        """The end of what a run printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def _wait_for(self, driver: subprocess.Popen[bytes], name: str, phase: str, step: int, born: float) -> None:
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up:
            if self._is_at(name, phase, step, born):
                if phase != "scoring" or (self.folder / SCORING).exists():
                    return
            elif phase == "scoring":
                (self.folder / SCORING).unlink(missing_ok=True)
            if driver.poll() is not None:
                raise RunError(f"the run '{name}' ended (status {driver.returncode}) before {phase}:\n{self.log(name)}")
            time.sleep(0.0003)
        raise DeadlineExceeded(f"waited {_START_S:g} s for step {step} of the run '{name}'; giving up")

    def _held(self, driver: subprocess.Popen[bytes], name: str, phase: str, step: int, born: float) -> bool:
        """Stop the driver, and see whether it stands there still: on a busy machine we may have looked long ago."""
        driver.send_signal(signal.SIGSTOP)
        held = psutil.Process(driver.pid)
        while held.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.0003)
        return self._is_at(name, phase, step, born)

    def _is_at(self, name: str, phase: str, step: int, born: float) -> bool:
        """Whether the driver born then is in that phase, of that step or a later one."""
        now = self.run(name).activity.read()
        return bool(now and now.since > born and now.step >= step and now.doing in PHASES[phase])


def fingerprint(checkpoint: Path) -> dict[str, str]:
    """SHA-256 by name of what a checkpoint holds: weights, optimizer, ledger; `meta.json` tells seconds too."""
    held = [path for path in sorted(checkpoint.iterdir()) if path.name != "meta.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in held}


def deterministic(folder: RunFolder) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock measured."""
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]


def ledger(folder: RunFolder) -> Ledger:
    """The ledger of the run's last checkpoint."""
    return Ledger.from_json(json.loads((folder.resolve(f"{STAGE}/final").path / "ledger.json").read_text()))


def killed_and_resumed(
    trial: Trial, name: str, plan: Sequence[tuple[str, int]], truth: RunFolder, *overrides: str
) -> list[Kill]:
    """Kill a run at each (phase, step) of the plan, go on, and at last let it finish."""
    kills = [trial.kill(name, phase, step, *overrides) for phase, step in plan]
    run = trial.finish(name)
    return [
        replace(kill, identical=_same_from(kill, following, run, truth))
        for kill, following in zip(kills, [*kills[1:], None], strict=True)
    ]


def _same_from(kill: Kill, following: Kill | None, run: RunFolder, truth: RunFolder) -> bool:
    """Whether the checkpoints saved between a kill and the one that followed it are those of the uninterrupted run."""
    last = following.step if following else sys.maxsize
    saved = [c for c in run.checkpoints.list(STAGE) if kill.step <= c.step <= last]
    return bool(saved) and all(
        fingerprint(c.path) == fingerprint(truth.resolve(f"{STAGE}/{c.step}").path) for c in saved
    )


def plan_of_ten() -> Iterator[tuple[str, int]]:
    """Every phase twice, each kill late enough that a checkpoint lies between it and the one before."""
    for number, phase in enumerate([*PHASES, *PHASES]):
        due = 3 + 3 * number
        yield phase, due + due % CHECKPOINT_EVERY if phase == "checkpoint" else due


def run() -> BenchResult:
    """Ten kills on Ray and vLLM; `value` is the share that hit and after which the weights were bit-identical."""
    folder = Path(tempfile.mkdtemp(prefix="rlforge-resume-"))
    try:
        trial = Trial(folder)
        truth = trial.finish("uninterrupted")
        kills = killed_and_resumed(trial, "killed", list(plan_of_ten()), truth)
        return _result(kills, truth, trial.run("killed"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result(kills: list[Kill], truth: RunFolder, killed: RunFolder) -> BenchResult:
    ledger(killed).check(0, STEPS * GROUPS)  # raises when a task was trained twice or lost
    final = f"{STAGE}/final"
    survived = [kill.survived for kill in kills]
    return BenchResult(
        name="resume",
        value=sum(survived) / len(survived),
        unit="share identical",
        samples=tuple(map(float, survived)),
        extra={
            "kills": [{**asdict(kill), "hit": kill.hit} for kill in kills],
            "final_checkpoint_identical": fingerprint(killed.resolve(final).path)
            == fingerprint(truth.resolve(final).path),
            "metrics_identical": deterministic(killed) == deterministic(truth),
            "steps": STEPS,
            "cores": os.cpu_count(),
        },
    )
