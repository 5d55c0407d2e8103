"""What a killed owner leaves behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

OWNER = """
import asyncio, sys
from rlforge.generators.vllm import VLLMGenerator
from rlforge.weights.shared_memory import SharedMemoryChannel

async def main():
    config = VLLMGenerator.Config(context=64, kv_cache_gb=0.05)
    generator = VLLMGenerator(config, model=sys.argv[1], seed=0, run_id="test-orphan")
    await generator.start()
    import torch
    SharedMemoryChannel(run_id="test-orphan").publish({"weight": torch.zeros(1000)}, 1)
    print("ready", flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="named shared memory is looked up in /dev/shm")
def test_nothing_outlives_a_killed_owner(tmp_path: Path, tiny_model: Callable[..., str]) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    before = set(os.listdir("/dev/shm"))
    owner = subprocess.Popen([sys.executable, str(script), tiny_model()], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert any("ready" in line for line in owner.stdout)
    family = psutil.Process(owner.pid).children(recursive=True)
    segments = {name for process in family for name in _segments(process)} | {"rlforge-test-orphan-weights-0"}
    assert len(family) >= 2
    assert segments - before
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (any(p.is_running() for p in family) or _left(segments)):
        time.sleep(0.1)
    assert [p for p in family if p.is_running()] == []
    assert _left(segments) == set()


def _left(segments: set[str]) -> set[str]:
    return segments & set(os.listdir("/dev/shm"))


def _segments(process: psutil.Process) -> set[str]:
    try:
        maps = Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:  # it has ended meanwhile
        return set()
    return {line.rsplit("/", 1)[1].split(" ")[0] for line in maps.splitlines() if "/dev/shm/" in line}
