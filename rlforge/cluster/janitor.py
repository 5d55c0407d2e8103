"""A process that stays behind when the driver goes, however it goes, and clears away whatever is left of its Ray.

It knows the family from looking while the driver lives: afterwards nobody can tell whose child an orphan was, and
Ray's own agents outlive a killed raylet by half a minute. Started as `python -m rlforge.cluster.janitor DRIVER RUN_ID
FOLDER`; the end of its standard input is the end of the driver, because nobody else holds the other end.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

import rlforge
from rlforge.processes import descendants, end_processes, mapped_segments, shared_memory_folder, sweep_shared_memory

LOOK_S = 1.0
"""Seconds between looks whether there is a new process or a new name in shared memory."""
PATIENCE_S = 30.0
"""Seconds the driver waits for it to clear up."""


class Janitor:
    """The driver's end of it. Example: `janitor = Janitor("demo-4711", folder)`, at last `janitor.close()`."""

    def __init__(self, run_id: str, folder: Path) -> None:
        home = str(Path(rlforge.__file__).parent.parent)
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rlforge.cluster.janitor", str(os.getpid()), run_id, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the driver
            env={**os.environ, "PYTHONPATH": path},
        )

    def close(self) -> None:
        """Have it clear up now, and wait for it. May be called twice."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(PATIENCE_S)


class Family:
    """Ray's processes below a driver, whatever they started, and the shared memory they have mapped."""

    def __init__(self, driver: int, folder: Path) -> None:
        self._driver = driver
        self._folder = str(folder)
        self._seen: set[int | str] = set()
        self._looks = 0
        self.processes: set[psutil.Process] = set()
        self.segments: set[str] = set()

    def look(self) -> None:
        """Look closely when something is new, and once more after it: what is new may not be mapped yet."""
        there = {*psutil.pids(), *os.listdir(shared_memory_folder())}
        self._looks = 2 if there - self._seen else self._looks - 1
        self._seen = there
        if self._looks > 0:
            self.processes |= self._living()
            self.segments |= mapped_segments(self.processes)

    def end(self) -> None:
        """End every process, those just born too, and remove their shared memory."""
        born = {child for process in self.processes for child in descendants(process.pid) if process.is_running()}
        self.segments |= mapped_segments(self.processes | born)
        end_processes(self.processes | born)
        for name in self.segments:
            (shared_memory_folder() / name).unlink(missing_ok=True)

    def _living(self) -> set[psutil.Process]:
        """Children of the driver that work in its Ray folder, and all below; its other children are not ours."""
        mine = [c for c in descendants(self._driver)[1:] if c.pid != os.getpid() and self._folder in _command(c)]
        return {process for child in mine for process in descendants(child.pid)}


def main() -> None:
    """Look on until the driver's end, then clear up."""
    driver, run_id, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    family = Family(driver, folder)
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        family.look()
    family.end()
    sweep_shared_memory(run_id)
    shutil.rmtree(folder, ignore_errors=True)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


if __name__ == "__main__":
    main()
