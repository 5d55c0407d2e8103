import subprocess
import sys
import time

import psutil
import pytest

from rlforge.processes import descendants, end_processes, segment_path, shared_memory_folder, sweep_shared_memory

CHILD = "import rlforge.processes as p, time; p.die_with_owner({owner}); print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print('up', flush=True); time.sleep(60)"
)


def start(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_a_process_ends_when_its_owner_is_killed() -> None:
    owner = start("import time; print(); time.sleep(60)")
    child = start(CHILD.format(owner=owner.pid))
    owner.kill()
    owner.wait()
    child.wait(timeout=20)


def test_a_process_whose_owner_is_gone_already_ends_at_once() -> None:
    owner = start("print()")
    owner.wait()
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(owner=owner.pid)], stdout=subprocess.DEVNULL)
    child.wait(timeout=20)


def test_a_process_that_ignores_the_request_is_made_to_end() -> None:
    process = start(STUBBORN)
    family = descendants(process.pid)
    began = time.monotonic()
    end_processes(family, grace_s=0.3)
    assert time.monotonic() - began < 20
    process.wait(timeout=20)
    assert descendants(process.pid) == []
    end_processes(family)


def test_a_sweep_takes_the_segments_of_one_run_only() -> None:
    ours, theirs = segment_path("unit-sweep", "a"), segment_path("unit-other", "a")
    ours.write_bytes(b"x")
    theirs.write_bytes(b"x")
    try:
        assert sweep_shared_memory("unit-sweep") == [ours.name]
        assert theirs.exists()
    finally:
        theirs.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="the file system is where segments show")
def test_a_killed_publisher_leaves_no_segment() -> None:
    publisher = start(
        "from rlforge.weights.shared_memory import SharedMemoryChannel as C; import torch, time\n"
        "C(run_id='unit-killed').publish({'w': torch.ones(3)}, 1); print('up', flush=True); time.sleep(60)"
    )
    assert segment_path("unit-killed", "weights-0").exists()
    psutil.Process(publisher.pid).kill()
    publisher.wait()
    ends = time.monotonic() + 20
    while segment_path("unit-killed", "weights-0").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not segment_path("unit-killed", "weights-0").exists()


MAPPING = """
from multiprocessing import resource_tracker, shared_memory
import time
from rlforge.processes import die_with_owner
segment = shared_memory.SharedMemory(create=True, size=64)
resource_tracker.unregister(segment._name, "shared_memory")  # as if the tracker had been killed too
die_with_owner({owner}, unlink_segments=True)
print(segment.name, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the file system is where segments show")
def test_shared_memory_goes_with_the_owner_also_when_the_tracker_is_dead() -> None:
    owner = start("import time; print(); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", MAPPING.format(owner=owner.pid)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    segment = shared_memory_folder() / child.stdout.readline().strip()
    child.stdout.close()
    assert segment.is_file()
    owner.kill()
    owner.wait()
    child.wait(timeout=20)
    assert not segment.exists()
