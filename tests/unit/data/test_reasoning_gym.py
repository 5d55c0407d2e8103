import json
from pathlib import Path
from typing import Any

import pytest

from rlforge.data.reasoning_gym import ReasoningGymSource
from rlforge.errors import ConfigError


def source(**config: Any) -> ReasoningGymSource:
    return ReasoningGymSource(ReasoningGymSource.Config.parse(config), base=Path())


def test_an_entry_is_a_task_that_carries_what_its_verifier_needs() -> None:
    import reasoning_gym

    task = source(dataset="chain_sum", size=5, seed=3, config={"max_terms": 2})[4]
    carried = json.loads(json.dumps(task.info["reasoning_gym"]))
    assert task.messages[0].text == carried["entry"]["question"]
    assert (carried["dataset"], carried["config"]) == ("chain_sum", {"max_terms": 2})
    verify = reasoning_gym.get_score_answer_fn("chain_sum")
    assert verify(task.answer, carried["entry"]) == 1.0
    assert verify("nothing", carried["entry"]) < 1.0


def test_the_same_seed_gives_the_same_tasks_and_another_gives_others() -> None:
    one, again, other = (source(dataset="chain_sum", size=5, seed=seed) for seed in (3, 3, 4))
    assert [one[i] for i in range(5)] == [again[i] for i in range(5)]
    assert one[0].messages != other[0].messages


def test_splits_share_no_question() -> None:
    parts = {
        name: source(dataset="chain_sum", size=60, splits={"train": 0.5, "held_out": 0.5}, split=name,
                     config={"max_terms": 2, "max_digits": 1})
        for name in ("train", "held_out")
    }  # fmt: skip
    questions = {name: {part[i].messages[0].text for i in range(len(part))} for name, part in parts.items()}
    assert not questions["train"] & questions["held_out"]
    assert sum(len(part) for part in parts.values()) == 60


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"dataset": "chain_sun"}, "unknown reasoning_gym dataset 'chain_sun'. Did you mean 'chain_sum'"),
        ({"dataset": "chain_sum", "config": {"max_term": 2}}, "unexpected keyword argument 'max_term'"),
        ({"dataset": "chain_sum", "config": {"min_terms": -1}}, "min_terms must be positive"),
        ({"dataset": "rearc"}, "its verifier misjudges the reference answer"),
    ],
)
def test_what_the_library_cannot_do_is_refused(config: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        source(**config)
