"""The recipe of the benches `control` and `step` is that of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlforge.bench.addition import recipe, tasks
from rlforge.importing import import_function
from rlforge.recipe import Recipe, read_document

EXAMPLE = Path(__file__).parents[3] / "examples" / "01_arithmetic"


def learning(recipe: Recipe) -> list[dict[str, Any]]:
    """What is learned from, how much at once, and how each step is made."""
    stages = [stage.model_dump() for stage in recipe.stage_list]
    kept = ("type", "batch_size", "max_tokens", "groups_per_step", "group_size", "sampling", "algorithm", "stop_when")
    return [
        {key: stage[key] for key in kept if key in stage}
        | {"lr": stage["learner"]["lr"], "warmup": stage["learner"]["schedule"]["warmup_steps"]}
        | {"split": [(source["splits"], source["split"]) for source in stage["data"]]}
        for stage in stages
    ]


def test_model_and_stages_of_the_bench_are_those_of_the_demo(tmp_path: Path) -> None:
    demo = read_document(EXAMPLE / "recipe.yaml").recipe()
    bench = recipe(tmp_path, name="control")
    assert bench.model.model_dump() == demo.model.model_dump()
    assert learning(bench) == learning(demo)


def test_tasks_of_the_bench_are_those_of_the_demo() -> None:
    demo = import_function(f"{EXAMPLE / 'tasks.py'}:addition", "tasks")
    assert list(tasks()) == list(demo())
