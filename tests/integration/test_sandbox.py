"""Code in the sandbox tries to get out, to stay, and to take more than its share."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import rlforge
from rlforge.errors import SandboxError
from rlforge.sandbox import detection
from rlforge.sandbox.programs import Ended, Isolation, Limits, Program
from rlforge.sandbox.running import execute, python

DRIVER = Path(__file__).parent / "sandbox_driver.py"
ORDINARY = 12345
SHORT = {"wall_s": 20.0, "cpu_s": 20.0}


def interpreter_for_everyone():
    """One that an ordinary user can run, too; None where there is none."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        command = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        with suppress(OSError):
            if subprocess.run(command, user=ORDINARY, group=ORDINARY, extra_groups=[], cwd="/").returncode == 0:
                return candidate
    return None


def drive(user, level, code, *arguments, **limits):
    """Run code in a sandbox that a user starts."""
    python_, identity = sys.executable, {}
    if user == "ordinary":
        if os.geteuid() != 0:
            pytest.skip("the tests run as an ordinary user already")
        python_ = interpreter_for_everyone()
        if python_ is None:
            pytest.skip("no interpreter that an ordinary user may run")
        identity = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
    asked = {"level": level, "code": code, "arguments": arguments, "limits": SHORT | limits}
    home = str(Path(rlforge.__file__).parent.parent)
    done = subprocess.run(
        [python_, "-B", str(DRIVER)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PYTHONPATH": home, "PATH": os.environ["PATH"], "SECRET_TOKEN": "hunter2"},
        timeout=100,
        **identity,
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout))


async def strongest():
    return await detection.isolation()


@pytest.fixture(scope="module")
def namespaces_work():
    if asyncio.run(strongest()) not in (Isolation.NAMESPACES, Isolation.BUBBLEWRAP):
        pytest.skip("this system allows no namespaces")


@pytest.fixture(params=["tester", "ordinary", "bubblewrap"])
def sandbox(request, namespaces_work):
    """`sandbox(code, *arguments, **limits)` as whoever runs the tests, as an ordinary user, by bwrap."""
    if request.param == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    user = "tester" if request.param == "tester" else "ordinary"
    level = "bubblewrap" if request.param == "bubblewrap" else None
    return lambda code, *arguments, **limits: drive(user, level, code, *map(str, arguments), **limits)


@pytest.fixture
def marker():
    """A word in the command line of whatever must not survive; checked at the end."""
    word = f"mark-{uuid.uuid4().hex}"
    yield word
    gone(lambda: marked(word))


def gone(left):
    """Wait until nothing is left."""
    give_up = time.monotonic() + 20
    while left():
        assert time.monotonic() < give_up, left()
        time.sleep(0.02)


def folders():
    """Working folders on disk; tests that run beside these have some for a while."""
    return set(Path("/tmp").glob("rlforge-sandbox*"))


def marked(word):
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if word in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_for(word, count):
    give_up = time.monotonic() + 20
    while len(marked(word)) < count:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def open_to_all(path, text):
    path.write_text(text)
    path.chmod(0o666)
    for parent in path.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o777)
    return path


def test_a_program_runs_and_its_words_and_status_come_back(sandbox):
    done = sandbox("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.ended, done.exit_code, done.stdout, done.stderr) == ("exited", 3, "out\n", "err\n")


def test_no_connection_reaches_a_listening_socket_outside(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0rlforge-{uuid.uuid4().hex}")
        local.listen()
        code = """
import socket, sys
for family, address in ((socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))), (socket.AF_UNIX, "\\0" + sys.argv[2])):
    try:
        socket.socket(family).connect(address)
        print("ESCAPED")
    except OSError as error:
        print("refused")
"""
        done = sandbox(code, server.getsockname()[1], local.getsockname()[1:].decode())
    assert done.stdout == "refused\nrefused\n"


def test_no_file_outside_can_be_read(sandbox, tmp_path):
    secret = open_to_all(tmp_path / "secret", "hunter2")
    code = """
import sys
for path in (sys.argv[1], "/proc/1/root" + sys.argv[1], "/proc/1/cwd/secret", "/etc/passwd", "/root/.bashrc"):
    try:
        print("ESCAPED", path, open(path).read())
    except OSError:
        print("refused")
"""
    assert sandbox(code, secret).stdout == "refused\n" * 5


def test_nothing_outside_its_folder_can_be_written(sandbox, tmp_path):
    target = open_to_all(tmp_path / "target", "untouched")
    code = """
import os, sys
paths = [sys.argv[1], "/proc/sys/kernel/hostname"]
for folder in ("/usr/lib", "/bin", "", "/dev", "/etc", sys.base_prefix):
    paths.append(folder + "/new")
for path in paths:
    try:
        open(path, "w").write("x")
        print("ESCAPED", path)
    except OSError:
        print("refused")
for folder in ("/work", "/tmp"):
    open(folder + "/mine", "w").write("x")
"""
    assert sandbox(code, target).stdout == "refused\n" * 8
    assert target.read_text() == "untouched"
    assert not Path("/tmp/mine").exists()


def test_fork_bomb_meets_its_limit_and_is_gone_afterwards(sandbox, marker):
    code = """
import os, time
refused = 0
while refused < 200:
    try:
        if os.fork() == 0:
            refused = 0
    except OSError:
        refused += 1
        time.sleep(0.005)
time.sleep(60)
"""
    done = sandbox(code, marker, wall_s=3.0, processes=20)
    assert done.ended == "wall_time"


def test_processes_beyond_the_limit_are_refused(sandbox):
    code = """
import os, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        count += 1
except OSError:
    pass
print(count, flush=True)
"""
    done = sandbox(code, processes=20)
    assert 10 <= int(done.stdout) <= 20


def test_memory_bomb_fails_within_its_own_address_space(sandbox):
    done = sandbox("x = []\nwhile True: x.append(bytearray(1 << 20))", memory_bytes=200 << 20)
    assert (done.ended, done.exit_code) == ("exited", 1)
    assert "MemoryError" in done.stderr


def test_memory_bomb_of_many_processes_is_ended(sandbox, marker):
    code = """
import os, time
for _ in range(6):
    os.fork()
held = bytearray(b"x") * (40 << 20)
time.sleep(60)
"""
    assert sandbox(code, marker, memory_bytes=200 << 20, processes=64).ended == "memory"


def test_endless_output_is_cut_and_ended(sandbox):
    done = sandbox("while True: print('x' * 1000)", output_bytes=5000)
    assert done.ended == "output"
    assert len(done.stdout) == 5000


def test_endless_loop_is_ended_by_processor_time(sandbox):
    code = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert sandbox(code, cpu_s=1.0).ended == "cpu_time"


def test_endless_sleep_is_ended_by_the_clock(sandbox, marker):
    started = time.monotonic()
    done = sandbox("import time; time.sleep(1000)", marker, wall_s=0.5)
    assert done.ended == "wall_time"
    assert done.seconds < 20
    assert time.monotonic() - started < 60


@pytest.fixture
def bystander():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_signals_reach_nobody_outside(sandbox, bystander):
    code = """
import os, signal, sys
for pid in (int(sys.argv[1]), int(sys.argv[2]), os.getppid()):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
print("still here", flush=True)
os.kill(-1, signal.SIGTERM)
"""
    done = sandbox(code, bystander.pid, os.getpid())
    assert done.stdout == "still here\n"
    assert bystander.poll() is None


def test_other_processes_cannot_be_seen_nor_looked_into(sandbox):
    code = """
import os
pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) if os.path.exists("/proc") else []
print(all(pid < 10 for pid in pids))
for pid in pids:
    for name in ("environ", "mem", "fd/0", "root/etc/passwd", "cwd/secret"):
        try:
            print("ESCAPED" if b"SECRET" in open(f"/proc/{pid}/{name}", "rb").read(4096) else "nothing")
        except OSError:
            pass
print(sorted(os.environ))
"""
    done = sandbox(code)
    assert "ESCAPED" not in done.stdout
    assert done.stdout.startswith("True\n")
    assert "SECRET" not in done.stdout
    assert "['HOME', 'LANG', 'PATH', 'PYTHONHASHSEED', 'TMPDIR'" in done.stdout


def test_a_daemon_does_not_stay_behind(sandbox, marker):
    code = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3):
            os.close(descriptor)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", sys.argv[1]])
    os._exit(0)
time.sleep(0.3)
print("left")
"""
    assert sandbox(code, marker).stdout == "left\n"


def test_no_privilege_is_left_to_build_a_way_out(sandbox):
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x00020000), libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), libc.umount2(b"/usr", 2))
for line in open("/proc/self/status"):
    if line.startswith(("CapEff", "CapPrm", "NoNewPrivs")):
        print(line.split()[1])
try:
    os.setuid(0)
    print("ESCAPED")
except OSError:
    print("refused")
"""
    assert sandbox(code).stdout.split() == ["-1", "-1", "-1", *["0" * 16] * 2, "1", "refused"]


def test_files_fill_no_disk(sandbox):
    code = """
written = 0
try:
    for number in range(100):
        with open(f"/tmp/{number}", "wb") as file:
            file.write(bytes(1 << 20))
        written += 1
except OSError as error:
    print(written)
try:
    open("/work/large", "wb").write(bytes(3 << 20))
except OSError:
    print("too large")
"""
    done = sandbox(code, disk_bytes=8 << 20, file_bytes=2 << 20)
    assert int(done.stdout.split()[0]) < 9


def test_mounts_and_folders_of_the_machine_are_as_before(sandbox):
    mounts, there = Path("/proc/self/mounts").read_text(), folders()
    sandbox("open('/work/x', 'w').write('x')")
    assert mounts == Path("/proc/self/mounts").read_text()
    new = folders() - there
    gone(lambda: new & folders())


async def test_cancelling_a_run_ends_its_program(marker):
    level = await strongest()
    program = Program(command=python("-c", "import time; time.sleep(1000)", marker))
    running = asyncio.create_task(execute(program, Limits(wall_s=100.0), level))
    await asyncio.to_thread(wait_for, marker, 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_program_ends_when_its_owner_is_killed(marker):
    level = asyncio.run(strongest())
    code = f"""
import asyncio
from rlforge.sandbox.programs import Isolation, Limits, Program
from rlforge.sandbox.running import execute, python
program = Program(command=python("-c", "import time; time.sleep(1000)", "{marker}"))
asyncio.run(execute(program, Limits(wall_s=100.0), Isolation("{level}")))
"""
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=Path(rlforge.__file__).parent.parent)
    wait_for(marker, 2)
    owner.kill()
    owner.wait()


async def test_many_at_once_do_not_mix():
    level = await strongest()
    programs = [Program(command=python("-c", "print(input())"), stdin=f"number {n}\n") for n in range(8)]
    done = await asyncio.gather(*(execute(program, Limits(), level) for program in programs))
    assert [each.stdout.decode() for each in done] == [f"number {n}\n" for n in range(8)]


async def test_socket_given_to_a_program_is_its_descriptor_three():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = "import socket; line = socket.socket(fileno=3); line.sendall(line.recv(10).upper())"
        ours.sendall(b"word")
        done = await execute(Program(command=python("-c", code)), Limits(), await strongest(), theirs)
        assert done.ok, done.stderr
        assert ours.recv(10) == b"WORD"


async def test_a_program_that_does_not_exist_is_the_sandboxs_fault():
    with pytest.raises(SandboxError, match="/no/such/program"):
        await execute(Program(command=("/no/such/program",)), Limits(), await strongest())


async def test_a_file_outside_the_working_folder_is_refused():
    with pytest.raises(SandboxError, match="leaves its working folder"):
        await execute(Program(command=python("-c", ""), files={"../x": ""}), Limits(), await strongest())


async def test_a_path_made_readable_can_be_read_and_not_written(tmp_path, namespaces_work):
    shown = open_to_all(tmp_path / "shown", "hello")
    code = f"print(open({str(shown)!r}).read()); open({str(shown)!r}, 'w')"
    done = await execute(Program(command=python("-c", code), readable=(str(shown),)), Limits(), await strongest())
    assert done.stdout == b"hello\n"
    assert b"Read-only file system" in done.stderr or b"Permission denied" in done.stderr


@pytest.mark.parametrize("user", ["tester", "ordinary"])
def test_without_namespaces_limits_hold_and_nothing_stays(user, marker):
    there = folders()
    daemon = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", sys.argv[1]])
    os._exit(0)
print(sorted(os.environ))
while True: pass
"""
    done = drive(user, "limits", daemon, marker, cpu_s=1.0)
    assert done.ended == "cpu_time"
    assert "SECRET" not in done.stdout
    assert drive(user, "limits", "while True: print('x')", output_bytes=500).ended == "output"
    assert drive(user, "limits", "import time; time.sleep(100)", wall_s=0.3).ended == "wall_time"
    assert "MemoryError" in drive(user, "limits", "bytearray(1 << 30)", memory_bytes=200 << 20).stderr
    new = folders() - there
    gone(lambda: new & folders())


async def test_weaker_isolation_is_said_once_and_plainly(monkeypatch, caplog):
    monkeypatch.setattr(detection, "_found", None)
    monkeypatch.setattr(detection, "_thinkable", lambda level: level is Isolation.LIMITS)
    done = [await detection.run(Program(command=python("-c", "print(1)"))) for _ in range(2)]
    assert {each.isolation for each in done} == {Isolation.LIMITS}
    assert {each.ended for each in done} == {Ended.EXITED}
    [said] = [record.getMessage() for record in caplog.records if record.name == "rlforge.sandbox.detection"]
    assert "isolation is weaker here" in said
    assert "can reach the network" in said
