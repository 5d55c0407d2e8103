"""Code under test: what passes, what fails, and how it tries to make a pass of a failure."""

import asyncio

import pytest

from rlforge.errors import DataError
from rlforge.sandbox.programs import Limits
from rlforge.sandbox.testing import run_cases, run_tests

ADD = "def add(a, b):\n    return a + b\n"
TESTS = """
from solution import add

def test_small():
    assert add(1, 2) == 3

def test_large():
    assert add(10**12, 1) == 10**12 + 1

def test_lists():
    assert add([1], [2]) == [1, 2]
"""
ATTEMPTS = {
    "exits early with 0": "import sys\nsys.exit(0)",
    "exits at once, without clean-up": "import os\nos._exit(0)",
    "exits in the call": "import os\ndef add(a, b):\n    os._exit(0)",
    "prints the words of a pass": """
import json
for name in ("test_small", "test_large", "test_lists"):
    print(json.dumps({"passed": name}), flush=True)
def add(a, b):
    print(json.dumps({"passed": "test_small"}), flush=True)
""",
    "answers before it is asked": """
import os
for _ in range(100):
    os.write(3, b'{"value": true}\\n')
""",
    "says that it passed over the line": """
import os
os.write(3, b'{"passed": "test_small"}\\n' * 3)
""",
    "is equal to everything": """
class Anything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def add(a, b): return Anything()
""",
    "is a number equal to everything": """
class Anything(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def add(a, b): return Anything(0)
""",
    "is a text equal to everything": """
class Anything(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def add(a, b): return Anything("0")
""",
    "is a list equal to everything": """
class Anything(list):
    def __eq__(self, other): return True
    def __iter__(self): raise SystemExit
def add(a, b): return Anything()
""",
    "lies about its class": """
class Anything:
    __class__ = int
    def __eq__(self, other): return True
def add(a, b): return Anything()
""",
    "patches Python": """
import builtins, ast, sys
builtins.AssertionError = type("Nothing", (Exception,), {})
builtins.compile = builtins.exec = lambda *a, **k: None
builtins.__build_class__ = None
sys.modules.clear()
def add(a, b): return None
""",
    "looks for the tests": """
import os, glob, json
found = glob.glob("/work/**", recursive=True) + glob.glob("/proc/*/cwd/*") + glob.glob("/tmp/**", recursive=True)
assert not any("tests" in name for name in found), found
def add(a, b): return 0
""",
    "looks for what is expected in the frames above": """
import sys, gc
def add(a, b):
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if "expected" in str(value): return 1 / 0
        frame = frame.f_back
    return None
""",
    "kills everything": """
import os, signal
def add(a, b): os.kill(-1, signal.SIGKILL)
""",
    "stops all tests": """
import os, signal
for pid in range(1, 10):
    try: os.kill(pid, signal.SIGSTOP)
    except OSError: pass
""",
    "closes the line": "import os\nos.close(3)\ndef add(a, b): return 0",
    "sends what is no value": """
import os
def add(a, b):
    os.write(3, b'{"value": ["pickle", "cos\\\\nsystem"]}\\n')
""",
    "sends a number without end": """
import os
def add(a, b):
    os.write(3, b'{"value": ' + b"9" * 100000 + b'}\\n')
""",
    "sends depth without end": """
import os
def add(a, b):
    os.write(3, b'{"value": ' + b'["list",' * 100000 + b"1" + b"]" * 100000 + b'}\\n')
""",
    "never answers": "def add(a, b):\n    while True: pass",
    "does not parse": "def add(a, b) return",
    "raises": "def add(a, b): raise ValueError('no')",
    "is not there": "",
}
QUICK = Limits(wall_s=4.0, cpu_s=2.0)


async def test_right_code_passes_every_test():
    report = await run_tests(ADD, TESTS)
    assert (report.passed, report.failed, report.share) == (("test_small", "test_large", "test_lists"), (), 1.0)


async def test_code_that_is_right_in_part_passes_in_part():
    report = await run_tests("def add(a, b):\n    print('hello')\n    return int(a) + int(b)\n", TESTS)
    assert report.passed == ("test_small", "test_large")
    assert report.failed[0][0] == "test_lists"
    assert "TypeError" in report.failed[0][1]
    assert "hello" in report.output


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_no_trick_makes_a_pass(attempt):
    report = await run_tests(ATTEMPTS[attempt], TESTS, QUICK)
    assert report.passed == ()
    assert len(report.failed) == 3


async def test_a_redefined_builtin_of_the_code_is_not_used_by_the_tests():
    code = "def near(x): return 100.0\ndef abs(x): return 0\ndef len(x): return 1\n"
    report = await run_tests(code, "assert abs(near(1) - 1) < 0.1\nassert len([1, 2]) == 2")
    assert report.share == 0.5


async def test_an_end_is_no_exception_that_a_test_may_expect():
    tests = "def test_raises():\n    try: add(1, 2)\n    except Exception: return\n    assert False"
    assert not (await run_tests("import os\ndef add(a, b): os._exit(1)", tests, QUICK)).all_passed
    assert (await run_tests("def add(a, b): raise KeyError", tests, QUICK)).all_passed


async def test_asserts_and_lists_of_sources_are_tests_too():
    asserts = await run_tests(ADD, "total = add(1, 2)\nassert total == 3\nassert add(1, 1) == 3\nassert add(0, 0) == 0")
    assert asserts.share == pytest.approx(2 / 3)
    listed = await run_tests(ADD, ["assert add(1, 2) == 3", "assert missing(1) == 2"])
    assert listed.passed == ("test 1",)


async def test_objects_generators_and_plain_values_of_every_kind_come_through():
    code = """
LIMIT = 7
class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item); return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
def count(n):
    yield from range(n)
def same(x): return x
"""
    tests = """
import math
def test_objects():
    stack = Stack()
    assert stack.push(1).push({"a": (1, 2)}).pop() == {"a": (1, 2)} and len(stack) == 1
    try: stack.pop(); stack.pop()
    except IndexError: pass
    else: assert False
def test_generators():
    assert list(count(3)) == [0, 1, 2] and next(iter(count(1))) == 0
def test_values():
    for value in (None, True, 1, 1.5, "ä", b"x", 1j, [1, [2]], (1,), {1, 2}, {"a": {2: [3]}}, math.inf):
        assert same(value) == value and type(same(value)) is type(value)
def test_names():
    import solution
    assert LIMIT == 7 == solution.LIMIT
"""
    report = await run_tests(code, tests)
    assert report.failed == ()


KINDS = """
from collections import Counter, OrderedDict, defaultdict, namedtuple
from enum import Enum, IntEnum
Point = namedtuple("Point", "x y number")
class Level(IntEnum): HIGH = 3
class Color(str, Enum): RED = "red"
class Metres(float): pass
class Stack(list):
    def push(self, item): self.append(item)
def counted(text): return Counter(text)
def grouped(pairs):
    groups = defaultdict(list)
    for key, item in pairs: groups[key].append(item)
    return groups
def point(): return Point(1, 2, 3)
def norm(point): return point.x + point.y
def nested(): return [Point(0, 0, 0), {"a": OrderedDict(b=Counter("c"))}]
def large(): return 7 ** 20_000
def same(value): return value
"""
USES = """
from collections import Counter
def test_mappings():
    assert counted("aab") == {"a": 2, "b": 1} == counted("aba") and counted("a") != {"a": 2}
    assert {"a": 1} == counted("a") == counted("a") and isinstance(counted("a"), dict) and not counted("")
    assert counted("aab").most_common(1) == [("a", 2)] and counted("aab")["z"] == 0
    assert sorted(counted("ba")) == ["a", "b"] and dict(counted("aab").items()) == {"a": 2, "b": 1}
    assert grouped([(1, 2), (1, 3)]) == {1: [2, 3]} and grouped([])["none"] == []
def test_tuples():
    x, y, number = point()
    assert (x, y, number) == point() == (1, 2, 3) and (1, 2, 3) == point() and {point()} == {(1, 2, 3)}
    assert point().x == 1 and point().number == 3 and norm(point()) == 3 and point()[-1] == 3 and len(point()) == 3
def test_texts_and_numbers():
    assert Level.HIGH == 3 and Level.HIGH + 1 == 4 and Level.HIGH.name == "HIGH" and Level(3) in (3, 4)
    assert Color.RED == "red" and Color.RED.value == "red" and Color.RED + "dish" == "reddish"
    assert abs(Metres(1.5) - 1.5) < 1e-9 and not Metres(0) and Metres(2)
def test_lists_that_change():
    stack = Stack()
    assert stack == [] and not stack
    stack.push(1)
    assert stack == [1] and stack and stack.pop() == 1 and len(stack) == 0 and stack == []
def test_nested():
    assert nested() == [(0, 0, 0), {"a": {"b": {"c": 1}}}]
def test_what_the_tests_give():
    assert same(Counter("ab")) == {"a": 1, "b": 1} and large() == same(7 ** 20_000)
"""


async def test_kinds_of_plain_values_are_equal_to_what_they_hold_and_can_do_what_they_could():
    report = await run_tests(KINDS, USES)
    assert (report.failed, len(report.passed)) == ((), 6)


async def test_asserts_that_begin_alike_are_told_apart():
    items = ", ".join(map(str, range(40)))
    tests = f"assert total([{items}, 1]) == 781\nassert total([{items}, 2]) == 782"
    report = await run_tests("def total(x): return 781", tests)
    assert (report.share, [name[:15] for name, _ in report.failed]) == (0.5, ["2: assert total"])


@pytest.mark.parametrize(
    "behind",
    [
        "for a, b in [(2, 4), (3, 9)]:\n    assert square(a) == b",
        "try:\n    square('a')\n    assert False\nexcept TypeError:\n    pass",
        "if square(2) != 4:\n    raise ValueError(2)",
        "def check(candidate):\n    assert candidate(2) == 4\ncheck(square)",
    ],
)
@pytest.mark.parametrize("before", ["assert square(1) == 1\n", ""])
async def test_what_stands_behind_the_last_assert_is_a_test_too(before, behind):
    wrong, right = [await run_tests(f"def square(x): return {what}", before + behind) for what in ("1", "x * x")]
    assert len(wrong.failed) == 1
    assert len(wrong.passed) == bool(before)
    assert right.all_passed


async def test_what_judges_nothing_behind_the_last_assert_belongs_to_it():
    report = await run_tests("def f(x): return 1", "assert f(1) == 1\nassert f(2) == 2\nprint('done')")
    assert (len(report.passed), len(report.failed)) == (1, 1)
    assert not (await run_tests("def f(x): return 1 / x", "assert f(1) == 1\nf(0)")).passed


async def test_test_functions_in_a_list_of_sources_are_run():
    report = await run_tests(
        ADD, ["def test_a():\n    assert add(1, 2) == 4", "def test_a():\n    assert add(1, 2) == 3"]
    )
    assert report.passed == ("test 2",)


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ("def test_x(:", "SyntaxError"),
        ("x = 1", "no test"),
        ("def check(f):\n    assert f(1, 2) == 3", "no test"),
        ("assert add(lambda: 1, 2)", "plain values alone"),
        ("import no_such_module\ndef test_a():\n    assert add(1, 2) == 3", "No module named 'no_such_module'"),
        ("import no_such_module\nassert add(1, 2) == 3", "No module named 'no_such_module'"),
        (["from math import no_such_name\nassert add(1, 2) == 3"], "cannot import name 'no_such_name'"),
        ("def test_a(tmp_path):\n    assert add(1, 2) == 3", "test_a needs tmp_path"),
        ("def test_a(x=1, *, y):\n    assert add(1, 2) == 3", "test_a needs y"),
        ("async def test_a():\n    assert add(1, 2) == 4", "test_a is async"),
        ("def test_a():\n    yield add(1, 2) == 4", "test_a yields"),
        ("def test_a():\n    pass\nclass TestB:\n    def test_c(self):\n        assert False", "class TestB"),
        ("assert add(1, 2) == 3\nreturn", "'return' outside function"),
        (
            "from solution import add\ndef test_a():\n    assert add(1, 2) == EXPECTD",
            "nothing defines the name 'EXPECTD'",
        ),
        ("from solution import add\nassert add(1, 2) == EXPECTD", "nothing defines the name 'EXPECTD'"),
    ],
)
async def test_tests_that_are_at_fault_judge_nobody(tests, why):
    with pytest.raises(DataError, match=why):
        await run_tests(ADD, tests)


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        (ADD, "from solution import sub\ndef test_a():\n    assert sub(1, 2) == -1"),
        (ADD, "from solution import sub\nassert sub(1, 2) == -1"),
        (ADD, "from solution import *\nassert sub(1, 2) == -1"),
        (ADD, "import solution\nassert solution.sub(1, 2) == -1"),
        (ADD, "assert sub(1, 2) == LIMIT"),
        ("import no_such_module\n" + ADD, "assert add(1, 2) == 3"),
        ("import no_such_module\n" + ADD, "from solution import add\nassert add(1, 2) == 3"),
        ("def add(a, b):\n    import no_such_module", "def test_a():\n    assert add(1, 2) == 3"),
        ("def add(a, b):\n    return missing", "from solution import add\nassert add(1, 2) == 3"),
        ("raise AttributeError('add')", "from solution import add\nassert add(1, 2) == 3\nassert add(1, 2) == 3"),
        ("def add(a): pass", "def test_a():\n    assert add(1, 2) == 3"),
    ],
)
async def test_what_the_code_lacks_is_no_fault_of_the_tests(code, tests):
    report = await run_tests(code, tests)
    assert report.failed
    assert not report.passed


async def test_tests_that_hang_on_their_own_judge_nobody():
    with pytest.raises(DataError, match="before they asked"):
        await run_tests(ADD, "def test_x():\n    while True: pass", Limits(wall_s=1.0, cpu_s=1.0))


async def test_programs_are_judged_by_what_they_print():
    code = "n = int(input())\nprint(1 / n)\n"
    report = await run_cases(
        code, [{"stdin": "2\n", "stdout": "0.5"}, {"stdin": "0", "stdout": ""}, {"stdin": "1", "stdout": "2.0"}]
    )
    assert report.passed == ("case 1",)
    assert "ZeroDivisionError" in report.output


async def test_first_case_that_runs_out_of_time_fails_those_that_are_left():
    code = "n = int(input())\nwhile n == 2: pass\nprint(n)"
    cases = [{"stdin": str(n), "stdout": str(n)} for n in (1, 2, 3, 4)]
    report = await run_cases(code, cases, Limits(wall_s=3.0, cpu_s=10))
    assert report.passed == ("case 1",)
    assert [name for name, _ in report.failed] == ["case 2", "case 3", "case 4"]
    assert report.failed[1][1].startswith("not run: case 2 ")


async def test_many_tested_at_once_do_not_mix():
    codes = [f"def add(a, b): return a + b + {n % 2}" for n in range(6)]
    reports = await asyncio.gather(*(run_tests(code, "assert add(1, 2) == 3") for code in codes))
    assert [report.all_passed for report in reports] == [True, False] * 3
