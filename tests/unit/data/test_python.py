from pathlib import Path
from typing import Any

import pytest

from rlforge.data.python import PythonSource
from rlforge.errors import ConfigError, DataError, ExtensionError
from rlforge.types import Task

USER_CODE = """
import random
from rlforge.types import Document

def additions(count=3, seed=0):
    draw = random.Random(seed)
    for number in range(count):
        a, b = draw.randint(0, 9), draw.randint(0, 9)
        yield {"prompt": f"{a}+{b}=", "answer": str(a + b)}

def endless():
    number = 0
    while True:
        yield {"prompt": str(number)}
        number += 1

def documents():
    return [Document(id="1", text="once"), Document(id="2", text="twice")]

def broken():
    yield {"prompt": "fine"}
    raise ValueError("the disk is full")

def mixed():
    return [{"prompt": "a"}, 3, {"prompt": "b"}]

def number():
    return 3

table = {"a": 1}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(USER_CODE)
    return tmp_path


def source(base: Path, name: str, /, **config: Any) -> PythonSource:
    return PythonSource(PythonSource.Config.parse({"function": f"tasks.py:{name}", **config}), base=base)


def test_what_a_function_prints_goes_to_stderr(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "tasks.py").write_text("def loud():\n    print('reading')\n    yield {'prompt': '1'}\n")
    source(base, "loud")
    assert capsys.readouterr() == ("", "reading\n")


def test_a_generator_with_options_gives_tasks(base: Path) -> None:
    made = source(base, "additions", options={"count": 5, "seed": 7}, name="add")
    again = source(base, "additions", options={"count": 5, "seed": 7}, name="add")
    assert [made[i] for i in range(5)] == [again[i] for i in range(5)]
    assert isinstance(made[0], Task)
    assert [made[i].id for i in (0, 4)] == ["add/0", "add/4"]


def test_items_of_our_own_types_go_under_the_source_name(base: Path) -> None:
    made = source(base, "documents")
    assert [(item.id, item.source) for item in (made[0], made[1])] == [
        ("documents/1", "documents"),
        ("documents/2", "documents"),
    ]


def test_an_endless_generator_is_read_as_far_as_the_limit(base: Path) -> None:
    assert len(source(base, "endless", limit=10)) == 10
    part = {"splits": {"train": 0.5, "held_out": 0.5}, "split": "held_out"}
    assert len(source(base, "endless", limit=10, **part)) == 10


def test_a_module_function_is_found_by_its_import_path(base: Path) -> None:
    config = PythonSource.Config(function="tests.unit.data.no_such_module:tasks")
    with pytest.raises(ConfigError, match="cannot import module"):
        PythonSource(config, base=base)


def test_what_the_function_raises_is_attributed_to_it(base: Path) -> None:
    with pytest.raises(
        ExtensionError, match=r"source 'broken' \(tasks.py:broken\): ValueError: the disk is full .*tasks.py:2"
    ):
        source(base, "broken")


def test_wrong_options_are_attributed_to_the_function(base: Path) -> None:
    with pytest.raises(ExtensionError, match="unexpected keyword argument 'cuont'"):
        source(base, "additions", options={"cuont": 5})


def test_a_bad_item_is_named_by_its_place_or_skipped(base: Path) -> None:
    with pytest.raises(DataError, match=r"source 'mixed' \(tasks.py:mixed\), item 1: a row is a mapping"):
        source(base, "mixed")
    made = source(base, "mixed", on_bad_row="skip")
    assert (len(made), len(made.skipped)) == (2, 1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("addition", "has no 'addition'. Did you mean 'additions'"),
        ("table", "is of type dict, not a function"),
    ],
)
def test_a_function_that_is_not_there_is_refused(base: Path, name: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        source(base, name)


def test_a_missing_file_and_a_wrong_result_are_refused(base: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        PythonSource(PythonSource.Config(function="gone.py:f"), base=base)
    with pytest.raises(DataError, match="returned int; return or yield items"):
        source(base, "number")
