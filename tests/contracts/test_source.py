"""What every registered source promises: the same items at the same indices, with unique ids under its name."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rlforge.config import build, config_class
from rlforge.data.config import KINDS, SourceConfig
from rlforge.interfaces import Source
from rlforge.registry import SOURCES
from rlforge.transports.config import EndpointConfig
from rlforge.types import Task

USER_CODE = "def squares():\n    return [{'prompt': f'{n}*{n}=', 'answer': n * n} for n in range(30)]\n"

WORLD = """
class Thirty:
    tasks = {"train": [{"id": n, "prompt": f"{n}+2="} for n in range(30)]}

    def reset(self, task, seed): ...

    def step(self, action): ...
"""

CONFIGS: Mapping[str, dict[str, Any]] = {
    "environment": {"environment": "thirty"},
    "jsonl": {"path": "rows.jsonl"},
    "python": {"function": "tasks.py:squares"},
    "reasoning_gym": {"dataset": "chain_sum", "size": 30},
    "text": {"path": "book.txt", "separate": "lines"},
}
"""One for each registered source; a new source joins the contract by a line here."""


@pytest.fixture(params=SOURCES.names())
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": f"{n}+1="}) + "\n" for n in range(30)))
    (tmp_path / "tasks.py").write_text(USER_CODE)
    (tmp_path / "thirty.py").write_text(WORLD)
    environments = {"thirty": EndpointConfig(address=f"python:{tmp_path}/thirty.py:Thirty")}
    (tmp_path / "book.txt").write_text("\n".join(f"line {n}" for n in range(30)))

    def made(**changes: Any) -> Source:
        config = config_class(SOURCES, request.param).parse(
            {"type": request.param, **CONFIGS[request.param], **changes}
        )
        assert isinstance(config, SourceConfig)
        return build(SOURCES, config, offered={"environments": environments}, base=tmp_path)

    return made


def items(source: Source) -> list[Any]:
    return [source[index] for index in range(len(source))]


def test_it_is_a_source_of_thirty_items_of_one_kind(make: Any) -> None:
    source = make()
    assert isinstance(source, Source)
    assert len(source) == 30
    assert {KINDS[type(item)] for item in items(source)} == {source.kind}
    assert source.skipped == ()


def test_the_same_index_gives_the_same_item_always(make: Any) -> None:
    source = make()
    assert items(source) == items(source) == items(make())


def test_ids_are_unique_and_begin_with_the_source_name(make: Any) -> None:
    source = make(name="mine")
    ids = [item.id for item in items(source)]
    assert source.name == "mine"
    assert len(set(ids)) == 30
    assert all(item_id.startswith("mine/") for item_id in ids)
    assert all(item.source == "mine" for item in items(source))


def test_it_has_a_name_of_its_own(make: Any) -> None:
    assert make().name


def test_splits_are_disjoint_and_together_the_whole(make: Any) -> None:
    splits = {"train": 0.6, "held_out": 0.4}
    parts = [items(make(splits=splits, split=name)) for name in splits]
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in items(make()))


def test_limit_keeps_the_first_items(make: Any) -> None:
    assert items(make(limit=4)) == items(make())[:4]


def test_items_can_be_sent_and_task_info_is_json(make: Any) -> None:
    for item in items(make(limit=4)):
        assert pickle.loads(pickle.dumps(item)) == item
        if isinstance(item, Task):
            assert json.loads(json.dumps([item.answer, dict(item.info)])) == [item.answer, dict(item.info)]
