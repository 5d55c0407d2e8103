import collections
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlforge.data.jsonl import JsonlSource
from rlforge.data.rows import as_conversation
from rlforge.data.splits import question_of, split_of
from rlforge.errors import ConfigError
from rlforge.types import Message, Task

SPLITS = {"train": 0.8, "held_out": 0.1, "stop": 0.1}


def prompts(folder: Path, **config: Any) -> list[str]:
    made = JsonlSource(JsonlSource.Config.parse({"path": "rows.jsonl", **config}), base=folder)
    return [made[index].messages[0].text for index in range(len(made))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [f'{{"prompt": "{number % 300}"}}' for number in range(400)]  # the first hundred questions occur twice
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_splits_are_disjoint_and_exhaustive_and_keep_duplicates_together(folder: Path) -> None:
    parts = {name: prompts(folder, splits=SPLITS, split=name) for name in SPLITS}
    assert sum(len(part) for part in parts.values()) == 400
    assert sorted(question for part in parts.values() for question in set(part)) == sorted(map(str, range(300)))


def test_splits_have_their_shares() -> None:
    counts = collections.Counter(split_of(str(number), SPLITS) for number in range(10_000))
    assert {name: round(count / 10_000, 1) for name, count in counts.items()} == SPLITS


def test_membership_never_changes_from_one_version_to_the_next() -> None:
    assert [split_of(str(number), SPLITS) for number in range(12)] == [
        "train",
        "train",
        "train",
        "held_out",
        "stop",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
    ]


def test_another_seed_splits_differently(folder: Path) -> None:
    one, other = (set(prompts(folder, splits=SPLITS, split="held_out", split_seed=seed)) for seed in (0, 1))
    assert one != other


def test_limit_keeps_the_first_of_the_split(folder: Path) -> None:
    held_out = {"splits": SPLITS, "split": "held_out"}
    assert prompts(folder, **held_out, limit=5) == prompts(folder, **held_out)[:5]


@given(question=st.text(), shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_every_question_has_a_split(question: str, shares: list[float]) -> None:
    splits = {str(index): share / sum(shares) for index, share in enumerate(shares)}
    assert split_of(question, splits) in splits


def test_a_task_and_the_conversation_made_of_it_fall_into_the_same_split() -> None:
    task = Task(id="t", messages=(Message.of("system", "s"), Message.of("user", "u")), answer="a")
    assert question_of(task) == question_of(as_conversation(task))


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"split": "train"}, "split 'train' of what"),
        ({"splits": SPLITS}, "say which part to use: train, held_out, stop"),
        ({"splits": SPLITS, "split": "heldout"}, "unknown split 'heldout'. Did you mean 'held_out'"),
        ({"splits": {"a": 0.5, "b": 0.4}, "split": "a"}, "add up to 0.9, not 1"),
        ({"splits": {"a": 1.5, "b": -0.5}, "split": "a"}, "must be above 0"),
        ({"weight": 0}, "weight=0: input should be greater than 0"),
    ],
)
def test_splits_that_make_no_sense_are_refused(config: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        JsonlSource.Config.parse({"path": "x", **config})
