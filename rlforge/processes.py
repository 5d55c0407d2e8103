"""No process outlives its owner, and no run leaves shared memory behind."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

OWNER_VARIABLE = "RLFORGE_OWNER_PID"
"""Environment variable that tells spawned processes whose death is theirs."""

GRACE_S = 3.0
"""Seconds between asking an orphan to end (SIGTERM) and ending it (SIGKILL)."""


def die_with_owner(owner_pid: int | None = None, *, unlink_segments: bool = False) -> None:
    """End this process within seconds of its owner's death, however the owner died.

    With `unlink_segments` it first removes the shared memory it has mapped: the standard library's resource tracker
    would, but whoever kills a whole tree of processes (Ray does) kills the tracker too.

    The owner is `owner_pid`, else the one named by the environment, else the parent. A thread waits for it: the
    kernel's own parent-death signal is no use here, because it fires when the *thread* that started us ends.
    """
    owner = owner_pid or int(os.environ.get(OWNER_VARIABLE, "0")) or os.getppid()
    if owner == os.getpid():
        return
    threading.Thread(target=_watch, args=(owner, unlink_segments), name=f"owner-{owner}-watch", daemon=True).start()


def settle_heap() -> None:
    """What is loaded by now stays: looking through it for garbage costs half a second each time.

    What comes after it are values without cycles, thousands in a burst, which need no collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(500_000, 50, 50)


def keep_progress_bars_local() -> None:
    """Give tqdm a lock of this process alone: its own stands in shared memory, where a killed process leaves it."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def end_processes(processes: Iterable[psutil.Process], grace_s: float = GRACE_S) -> None:
    """Ask processes to end, wait, then make them end. Those that are gone already are fine."""
    alive = list(processes)
    for process in alive:
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(alive, timeout=grace_s)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=grace_s)


def descendants(pid: int) -> list[psutil.Process]:
    """A process and everything below it; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def shared_memory_folder() -> Path:
    """Where segments live: memory-backed on Linux, the temporary folder where there is no `/dev/shm`."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


def segment_path(run_id: str, name: str) -> Path:
    """File of a segment of a run; the prefix is what `sweep_shared_memory` goes by."""
    return shared_memory_folder() / f"rlforge-{run_id}-{name}"


def sweep_shared_memory(run_id: str) -> list[str]:
    """Remove every segment of a run; returns their names. Call at the start and at the end of a run."""
    swept: list[str] = []
    for path in sorted(shared_memory_folder().glob(f"rlforge-{run_id}-*")):
        path.unlink(missing_ok=True)
        swept.append(path.name)
    return swept


def mapped_segments(processes: Iterable[psutil.Process]) -> set[str]:
    """Names in `/dev/shm` that processes have mapped, a run's own excepted; empty where there is no `/proc`."""
    names: set[str] = set()
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        except OSError:
            continue
        names |= {line.rpartition("/")[2] for line in lines if "/dev/shm/" in line and not line.endswith("(deleted)")}
    return {name for name in names if not name.startswith("rlforge-")}


def remove_segments(names: Iterable[str]) -> None:
    """Remove segments that ended processes of ours left behind, and tell the resource tracker so."""
    for name in names:
        path = shared_memory_folder() / name
        if path.exists():
            path.unlink(missing_ok=True)
            resource_tracker.unregister(f"/{name}", "shared_memory")


def _watch(owner: int, unlink_segments: bool) -> None:
    _wait_for_exit(owner)
    if unlink_segments:
        for name in mapped_segments([psutil.Process()]):
            (shared_memory_folder() / name).unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)


def _wait_for_exit(pid: int) -> None:
    """Block until a process (not our child) has ended; at once on Linux, within half a second elsewhere."""
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        select.select([descriptor], [], [])
        os.close(descriptor)
        return
    while _lives(pid):
        time.sleep(0.5)


def _lives(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
