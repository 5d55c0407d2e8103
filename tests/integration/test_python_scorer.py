"""The python scorer against functions that misbehave, in real processes."""

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from rlforge.errors import ConfigError
from rlforge.rewards.python.scorer import PythonScorer, check_function
from rlforge.rewards.router import Router
from tests.rollouts import rollout
from tests.worlds import until


@pytest.fixture
def before() -> set[psutil.Process]:
    """Children that other tests of this process left to it, such as multiprocessing's resource tracker."""
    return set(psutil.Process().children(recursive=True))


def new_children(before: set[psutil.Process]) -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child not in before]


@pytest.fixture
def write(tmp_path):
    """`write(code)` is `file.py:reward`."""

    def write(code, name="customer.py"):
        (tmp_path / name).write_text(textwrap.dedent(code))
        return f"{tmp_path / name}:reward"

    return write


@contextlib.asynccontextmanager
async def started(function, **settings):
    scorer = PythonScorer(PythonScorer.Config.parse({"type": "python", "function": function, **settings}))
    await scorer.start()
    try:
        yield scorer
    finally:
        await scorer.close()


async def judge(function, rollouts, **settings):
    async with started(function, **settings) as scorer:
        return await scorer.score(rollouts)


def members(count):
    return [rollout(str(member), member=member) for member in range(count)]


def outcomes(scores):
    return [score.value if score.scored else score.error_kind for score in scores]


async def gone(*pids, within_s=10.0):
    """Whether all these processes have ended."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        await asyncio.sleep(0.05)
    return False


# --- what a function sees and returns --------------------------------------------------------------------------


async def test_function_sees_the_rollout_itself(write):
    function = write("""
        from rlforge import Rollout
        def reward(rollout):
            assert isinstance(rollout, Rollout)
            return {
                "text": rollout.text == "46",
                "answer": rollout.task.answer == "46",
                "prompt": rollout.task.messages[0].text == "12+34=",
                "turns": rollout.turns[0].completion.token_ids == (5, 6, 7, 2),
            }
    """)
    [score] = await judge(function, [rollout()])
    assert score.value == 4
    assert score.components == {"text": 1, "answer": 1, "prompt": 1, "turns": 1}


async def test_each_way_to_fail_is_its_own_kind_and_touches_no_other_rollout(write):
    function = write("""
        import os, ctypes, sys
        def reward(rollout):
            match rollout.key.member:
                case 1: raise ValueError("no")
                case 2: os._exit(3)
                case 3: ctypes.string_at(0)
                case 4: return None
                case 5: return "1"
                case 6: return float("nan")
                case 7: sys.exit("bye")
                case 8: raise ConnectionError("unreachable")
            return 1
    """)
    scores = await judge(function, members(12))
    failed = ["exception", "crash", "crash", "declined", "malformed", "malformed", "exception", "exception"]
    assert outcomes(scores) == [1, *failed, 1, 1, 1]
    assert scores[1].reason.startswith("ValueError: no (")
    assert scores[1].reason.endswith("customer.py:5 in reward)")
    assert "exit status 3" in scores[2].reason
    assert "SIGSEGV" in scores[3].reason
    assert "customer.py" in scores[3].reason, "the last words say where it crashed"
    assert [score.retryable for score in scores[1:9]] == [False, True, True, False, False, False, False, True]


async def test_prints_are_kept_with_their_rollout_and_clipped(write):
    function = write("""
        import sys
        def reward(rollout):
            print("seen", rollout.text)
            print("warned", file=sys.stderr)
            if rollout.key.member == 1: print("x" * 1000)
            return 1
    """)
    first, second = await judge(function, members(2), output_chars=30)
    assert first.output == "seen 0\nwarned\n"
    assert second.output.startswith("seen 1\nwarned\nxxx")
    assert second.output.endswith("(clipped)")


async def test_coroutines_run_at_once_and_keep_their_prints_apart(write):
    function = write("""
        import asyncio
        async def reward(rollout):
            print("start", rollout.key.member)
            await asyncio.sleep(60 if rollout.key.member == 3 else 0.2)
            print("end", rollout.key.member)
            if rollout.key.member == 4: raise ValueError("no")
            return rollout.key.member
    """)
    began = time.perf_counter()
    scores = await judge(function, members(16), timeout_s=2)
    assert time.perf_counter() - began < 30
    assert outcomes(scores) == [0, 1, 2, "timeout", "exception", *range(5, 16)]
    assert scores[5].output == "start 5\nend 5\n"


async def test_coroutine_that_blocks_its_process_is_the_only_one_to_time_out(write):
    function = write("""
        import asyncio, time
        async def reward(rollout):
            await asyncio.sleep(0.01)
            if rollout.key.member == 2: time.sleep(60)
            return 1
    """)
    assert outcomes(await judge(function, members(4), timeout_s=1.5)) == [1, 1, "timeout", 1]


async def test_batch_function_gets_lists_and_a_crash_is_pinned_on_the_one_to_blame(write):
    function = write("""
        import os
        def reward(rollouts, scale):
            for rollout in rollouts:
                if rollout.key.member == 2: os._exit(1)
            return [scale * rollout.key.member for rollout in rollouts]
    """)
    scores = await judge(function, members(5), batch=True, options={"scale": 2})
    assert outcomes(scores) == [0, 2, "crash", 6, 8]


async def test_results_are_in_order_whichever_process_is_done_first(write):
    function = write("""
        import time
        def reward(rollout):
            time.sleep(0.02 if rollout.key.member % 3 == 0 else 0)
            return rollout.key.member
    """)
    async with started(function, workers=2) as scorer:
        both = await asyncio.gather(scorer.score(members(20)), scorer.score(members(20)))
    assert [outcomes(scores) for scores in both] == [list(range(20))] * 2


async def test_task_that_cannot_leave_the_process_is_unscored_alone(write):
    function = write("def reward(rollout): return 1")
    scores = await judge(function, [rollout(), rollout(answer=lambda: None), rollout()])
    assert outcomes(scores) == [1, "malformed", 1]


# --- limits ----------------------------------------------------------------------------------------------------


async def test_hanging_function_is_killed_in_time_and_the_rest_is_scored(write):
    function = write("""
        def reward(rollout):
            while rollout.key.member == 3: pass
            return 1
    """)
    began = time.perf_counter()
    scores = await judge(function, members(6), timeout_s=1.5)
    assert outcomes(scores) == [1, 1, 1, "timeout", 1, 1]
    assert scores[3].retryable
    assert "1.5 s" in scores[3].reason
    assert time.perf_counter() - began < 30


async def test_function_that_takes_all_memory_is_stopped_at_the_limit(write):
    function = write("""
        def reward(rollout):
            hoard = []
            while rollout.key.member == 1: hoard.append(bytearray(1 << 24))
            return 1
    """)
    scores = await judge(function, members(3), memory_bytes=512 << 20)
    assert outcomes(scores) == [1, "memory", 1]
    assert "memory_bytes" in scores[1].reason


async def test_endless_prints_fill_nothing(write):
    function = write("""
        import os
        def reward(rollout):
            while rollout.key.member == 0: print("x" * 100)
            while rollout.key.member == 1: os.write(1, b"y" * 100)
            return 1
    """)
    before = psutil.Process().memory_info().rss
    scores = await judge(function, members(3), timeout_s=1.5)
    assert outcomes(scores) == ["timeout", "timeout", 1]
    assert psutil.Process().memory_info().rss - before < 50 << 20


async def test_whatever_the_function_started_dies_with_it(write, tmp_path, before: set[psutil.Process]):
    function = write(f"""
        import os, subprocess, sys, time
        def reward(rollout):
            code = "import time; time.sleep(600)"
            plain = subprocess.Popen([sys.executable, "-c", code])
            detached = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
            while rollout.key.member == 0:
                for _ in range(20):
                    if os.fork() == 0: time.sleep(600)
                open({str(tmp_path / "pids")!r}, "w").write(f"{{plain.pid}} {{detached.pid}}")
                time.sleep(600)
            return 1
    """)
    async with started(function, timeout_s=3) as scorer:
        assert outcomes(await scorer.score(members(2))) == ["timeout", 1]
        killed = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert await gone(*killed)
        mine = new_children(before)
    assert await gone(*(process.pid for process in mine))


async def test_close_leaves_no_process_even_in_the_middle_of_a_call(write, before: set[psutil.Process]):
    function = write("""
        import time
        def reward(rollout): time.sleep(600)
    """)
    async with started(function, workers=2) as scorer:
        call = asyncio.create_task(scorer.score(members(4)))
        await asyncio.sleep(0.3)
        mine = new_children(before)
        assert len(mine) >= 4
    assert await gone(*(process.pid for process in mine))
    assert outcomes(await call) == ["cancelled"] * 4


async def test_function_dies_with_its_owner_even_by_kill_9(write, tmp_path):
    function = write("""
        import subprocess, time
        def reward(rollout):
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            while True: pass
    """)
    owner = tmp_path / "owner.py"
    owner.write_text(
        textwrap.dedent(f"""
        import asyncio
        from rlforge.rewards.python.scorer import PythonScorer
        from tests.rollouts import rollout
        async def main():
            scorer = PythonScorer(PythonScorer.Config.parse({{"type": "python", "function": {function!r}}}))
            await scorer.start()
            print("ready", flush=True)
            await scorer.score([rollout()])
        asyncio.run(main())
        """)
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = await asyncio.create_subprocess_exec(sys.executable, owner, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    owned = psutil.Process(process.pid)
    await until(lambda: len(owned.children(recursive=True)) >= 3, within_s=20)  # guardian, function, sleep
    family = owned.children(recursive=True)
    process.kill()
    await process.wait()
    assert await gone(*(child.pid for child in family))


# --- functions that cannot work --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nowhere_to_be_found\ndef reward(rollout): return 1", "No module named 'nowhere_to_be_found'"),
        ("def reward(rollout) return 1", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero ("),
        ("def rewards(rollout): return 1", "has no 'reward'. Did you mean 'rewards'?"),
        ("reward = 1", "is of type int, not a function"),
        ("def reward(): return 1", "cannot be called as reward(rollout)"),
        ("def reward(a, b): return 1", "missing a required argument: 'b'"),
        ("import sys; sys.exit(2)", "called sys.exit(2)"),
        ("import os; os._exit(4)", "ended while importing it"),
    ],
)
async def test_function_that_cannot_work_is_refused_at_the_start(write, code, said, before: set[psutil.Process]):
    function = write(code)
    with pytest.raises(ConfigError) as refused:
        await judge(function, [rollout()])
    assert said in str(refused.value)
    assert "scorer 'python'" in str(refused.value)
    assert not new_children(before)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nowhere.py:reward", "there is no file"),
        ("no.such.module:reward", "cannot import module 'no.such.module'"),
        ("json:loadz", "has no 'loadz'"),
    ],
)
def test_function_that_is_not_there_is_refused(function, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        check_function(PythonScorer.Config.parse({"type": "python", "function": function}))


@pytest.mark.parametrize("function", ["reward.py", "reward.py:", ":reward", "a.py:b c"])
def test_target_that_names_no_function_is_refused_at_once(function):
    with pytest.raises(ConfigError, match="does not name a function"):
        PythonScorer.Config.parse({"type": "python", "function": function})


async def test_file_may_import_its_neighbours(write):
    write("VALUE = 3", name="neighbour_of_customer.py")
    function = write("from neighbour_of_customer import VALUE\ndef reward(rollout): return VALUE")
    assert outcomes(await judge(function, [rollout()])) == [3]


async def test_file_in_the_current_folder_does_not_shadow_the_standard_library(write, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "queue.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert outcomes(await judge(write("def reward(rollout): return 1"), [rollout()])) == [1]


# --- through the router ----------------------------------------------------------------------------------------


async def test_crash_that_passes_is_scored_at_the_second_attempt(write, tmp_path):
    function = write(f"""
        import os
        from pathlib import Path
        def reward(rollout):
            mark = Path({str(tmp_path / "mark")!r})
            if rollout.key.member == 1 and not mark.exists():
                mark.touch()
                os._exit(1)
            return 1
    """)
    router = Router(Router.Config.parse({"scorers": [{"type": "python", "function": function}]}))
    await router.start()
    try:
        rewards = await router.reward(members(3))
    finally:
        await router.close()
    assert [reward.value for reward in rewards] == [1, 1, 1]
    assert [reward.scores[0].attempts for reward in rewards] == [1, 2, 1]


async def test_trivial_function_on_256_rollouts_takes_milliseconds(write):
    """A loose bound, for a busy machine."""
    async with started(write("def reward(rollout): return float(rollout.text == rollout.task.answer)")) as scorer:
        rollouts = members(256)
        best = 1.0
        for _ in range(10):
            began = time.perf_counter()
            await scorer.score(rollouts)
            best = min(best, time.perf_counter() - began)
    assert best < 0.1
