"""Everything a driver started and mapped, so that a test can say what outlived it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from rlforge.bench.resume import Trial

SHARED_MEMORY = Path("/dev/shm")


class Family:
    """Looks at a driver's processes while they live; afterwards tells what is left of them."""

    def __init__(self, driver: subprocess.Popen[bytes]) -> None:
        self.driver = driver
        self.processes: set[psutil.Process] = set()
        self.segments: set[str] = set()
        self._before = set(os.listdir(SHARED_MEMORY))

    def look(self) -> list[psutil.Process]:
        """Note the processes and the shared memory there are now."""
        alive = psutil.Process(self.driver.pid).children(recursive=True)
        self.processes |= set(alive)
        for process in alive:
            self.segments |= _mapped(process.pid)
        return alive

    def named(self, *words: str) -> psutil.Process:
        """The one process whose command line has all the words."""
        found = [p for p in self.look() if all(word in " ".join(_cmdline(p)) for word in words)]
        assert len(found) == 1, f"{words}: {found} among {[_cmdline(p) for p in self.look()]}"
        return found[0]

    def listening(self) -> set[str]:
        """The addresses at which the driver and its processes accept connections."""
        family = [psutil.Process(self.driver.pid), *self.look()]
        return {address for process in family for address in _listened_at(process)}

    def left(self, *, folder: bool = True) -> list[str]:
        """Processes, segments and Ray folders of the driver that are still there."""
        found = [f"process {p.pid} {_cmdline(p)}" for p in self.processes if _alive(p)]
        there = set(os.listdir(SHARED_MEMORY))
        found += sorted(self.segments & there)
        # a semaphore is mapped under a name that is gone: which are the driver's is seen once nobody has them any more
        found += sorted(_ownerless({name for name in there - self._before if name.startswith("sem.")}))
        found += sorted(name for name in there if name.startswith("rlforge-") and f"-{self.driver.pid}-" in name)
        if folder:
            found += [str(path) for path in Path(tempfile.gettempdir()).glob(f"rlforge-ray-{self.driver.pid}-*")]
        return found

    def left_after(self, seconds: float = 15.0, *, folder: bool = True) -> list[str]:
        """What is left when it had so long to go."""
        assert self.processes, "the family was never looked at"
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up and self.left(folder=folder):
            time.sleep(0.1)
        return self.left(folder=folder)


def until(trial: Trial, name: str, family: Family, step: int, *doing: str) -> None:
    """Wait until the run is at that step, doing one of these things; look at the family meanwhile."""
    give_up = time.monotonic() + 400
    while time.monotonic() < give_up:
        now = trial.run(name).activity.read()
        if now and now.step >= step and now.doing in doing:
            family.look()
            return
        assert family.driver.poll() is None, trial.log(name)
        time.sleep(0.005)
    raise AssertionError(f"{name} never came to {doing} of step {step}:\n{trial.log(name)}")


def end(family: Family) -> None:
    """Leave nothing behind, whatever the test found."""
    for process in {*family.processes}:
        if _alive(process):
            process.kill()
    if family.driver.poll() is None:
        family.driver.send_signal(signal.SIGKILL)
        family.driver.wait()


def _mapped(pid: int) -> set[str]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {line.rpartition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line and "(deleted)" not in line}


def _ownerless(names: set[str]) -> set[str]:
    """Of files in shared memory those that no living process has mapped; the tests beside this one have some."""
    mapped: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if names else ():
        with suppress(OSError):
            mapped |= {line.split()[4] for line in maps.read_text().splitlines() if f"{SHARED_MEMORY}/" in line}
    return {name for name in names if _inode(SHARED_MEMORY / name) not in {"", *mapped}}


def _inode(path: Path) -> str:
    """Empty where the file is gone."""
    try:
        return str(path.stat().st_ino)
    except FileNotFoundError:
        return ""


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _listened_at(process: psutil.Process) -> set[str]:
    try:
        return {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:  # some live for a moment
        return set()


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or [process.name()]
    except psutil.Error:
        return ["(gone)"]
