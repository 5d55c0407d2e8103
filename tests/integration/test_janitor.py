"""What the janitor clears away, and what it leaves alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from rlforge.processes import segment_path

DRIVER = """
import signal, subprocess, sys, time
from pathlib import Path
from rlforge.cluster.janitor import Janitor
from rlforge.processes import segment_path

folder = Path(sys.argv[1])
janitor = Janitor("test-janitor", folder)
segment_path("test-janitor", "weights-0").write_text("left")
rays = subprocess.Popen(["sh", "-c", f"sleep 60 & : {folder}; sleep 60"])
own = subprocess.Popen(["sleep", "60"])
def up():  # deaf to whatever is not its driver's
    (ignored,) = [line for line in open(f"/proc/{janitor._process.pid}/status") if line.startswith("SigIgn")]
    return int(ignored.split()[1], 16) >> signal.SIGTERM - 1 & 1

while not up():
    time.sleep(0.05)
time.sleep(2.5)
print(janitor._process.pid, rays.pid, own.pid, flush=True)
if sys.argv[2] == "close":
    janitor.close()
    print(own.poll(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart as on Linux")
@pytest.mark.parametrize("way", ["kill", "close"])
def test_rays_processes_go_with_segments_and_folder_and_the_drivers_own_stay(way: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="test-janitor-"))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder), way], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    janitor, rays, own = (psutil.Process(int(pid)) for pid in driver.stdout.readline().split())
    family = [rays, *rays.children(recursive=True)]
    try:
        if way == "close":
            assert driver.stdout.readline() == "None\n"
        else:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
        _, alive = psutil.wait_procs([janitor], timeout=30)
        assert alive == []
        assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
        assert own.is_running()
        assert not folder.exists()
        assert not segment_path("test-janitor", "weights-0").exists()
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
        own.kill()
