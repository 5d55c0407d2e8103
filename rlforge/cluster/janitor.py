"""A process that stays behind when the driver goes, however it goes, and clears away whatever is left of its run.

Each process of a run on a private Ray inherits a mark in its environment, so that none is missed: not those that
detached themselves, not Ray's own agents, which outlive a killed raylet. Started as `python -m rlforge.cluster.janitor
RUN_ID FOLDER`; the end of its standard input is the end of the driver, because nobody else holds the other end.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

import rlforge
from rlforge.processes import end_processes, mapped_segments, shared_memory_folder, sweep_shared_memory

MARK = "RLFORGE_RUN"
"""Environment variable that names the run a process belongs to."""
LOOK_S = 0.5
"""Seconds between looks for new names in shared memory: a process may die before it can be asked which are its own."""
PATIENCE_S = 30.0
_ROUNDS = 3  # a process may be born while its parents are ended


class Janitor:
    """The driver's end of it. Example: `janitor = Janitor("demo-4711", folder)`, at last `janitor.close()`."""

    def __init__(self, run_id: str, folder: Path) -> None:
        home = str(Path(rlforge.__file__).parent.parent)
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rlforge.cluster.janitor", run_id, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the driver
            env={**os.environ, "PYTHONPATH": path},
        )
        os.environ[MARK] = run_id

    def close(self) -> None:
        """Have it clear up now, and wait for it. May be called twice."""
        os.environ.pop(MARK, None)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(PATIENCE_S)


def marked(run_id: str) -> list[psutil.Process]:
    """Living processes of a run, as far as their environment may be read."""
    return [process for process in psutil.process_iter() if _mark(process) == run_id]


def clear_up(run_id: str, folder: Path, segments: Iterable[str]) -> None:
    """End every process of a run; remove its shared memory, the `segments` they had mapped, and its Ray folder."""
    found = set(segments)
    for _ in range(_ROUNDS):
        if not (family := marked(run_id)):
            break
        found |= mapped_segments(family)
        end_processes(family)
    for name in found:
        (shared_memory_folder() / name).unlink(missing_ok=True)
    sweep_shared_memory(run_id)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Wait for the driver's end, then clear up."""
    run_id, folder = sys.argv[1], Path(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    segments: set[str] = set()
    known: set[str] = set()
    looks = 0
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        there = set(os.listdir(shared_memory_folder()))
        looks = 2 if there - known else looks - 1  # twice, since a new name may not be mapped yet
        if looks > 0:
            segments |= mapped_segments(marked(run_id))
        known = there
    clear_up(run_id, folder, segments)


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


if __name__ == "__main__":
    main()
