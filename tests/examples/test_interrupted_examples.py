"""Ctrl-C and SIGTERM in an example: its server lives while the training finishes its step, and not after it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from tests.warehouse import node_with_packages

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SERVED = {"02_robot_over_grpc": 50051, "05_judge": 50153, "06_warehouse_js": 50061}
"""Examples whose script starts a server, and its port."""
TRAINING = """
import signal, socket, sys, time

asked = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: asked.append(1))

def reached():
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2).close()
    except OSError:
        return False
    return True

while not reached():
    time.sleep(0.1)
print("step begun", flush=True)
while not asked:
    time.sleep(0.05)
time.sleep(1.0)
print("server reached" if reached() else "server gone", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("example", SERVED)
def test_a_server_outlives_the_signal_until_the_step_has_ended(
    example: str, number: signal.Signals, tmp_path: Path
) -> None:
    port = SERVED[example]
    if listens(port):
        pytest.skip(f"port {port} is taken")
    if example == "06_warehouse_js":
        node_with_packages()
    folder = stage(example, port, tmp_path)
    command = ["sh", f"examples/{example}/run.sh"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        try:
            heard(running.stdout, "step begun")
            os.killpg(running.pid, number)
            heard(running.stdout, "server reached")
            running.wait(20)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    ends = time.monotonic() + 5
    while listens(port) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not listens(port)


def stage(example: str, port: int, folder: Path) -> Path:
    """The repository as far as the script looks at it, with a training in it that takes a second to end its step."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("runs"))
    (folder / "environments").symlink_to(ROOT / "environments")
    runs = folder / "examples" / example / "runs"
    runs.mkdir()
    (runs / "traces.jsonl").touch()
    (folder / "training.py").write_text(TRAINING)
    place = folder / ".venv" / "bin"
    place.mkdir(parents=True)
    train = f"exec {sys.executable} {folder}/training.py {port}"
    script(place / "python", f'exec {sys.executable} "$@"')
    script(place / "rlforge", f'if [ "$1" = serve ]; then exec {BIN}/rlforge "$@"; else {train}; fi')
    return folder


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def heard(said: IO[str], wanted: str) -> None:
    """Read on to a line; what servers print stands between."""
    lines: list[str] = []
    while line := said.readline():
        lines.append(line.strip())
        if line.strip() in (wanted, "server gone"):
            break
    assert lines[-1:] == [wanted], lines


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
