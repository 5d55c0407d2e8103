"""A dry run is the same recipe, small."""

from pathlib import Path

from rlforge.recipe import load_recipe
from rlforge.recipe.dry_run import dry_run


def test_dry_run_keeps_every_part_and_shrinks_model_and_steps(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["steps=500", "groups_per_step=64", "model.init.layers=6"])
    small = dry_run(recipe)
    assert recipe.model.init is not None
    assert recipe.model.init.layers == 6
    assert small.model.init is not None
    assert small.model.init.layers == 2
    assert [stage.steps for stage in small.stage_list] == [2, 2]
    assert small.stage("grpo").algorithm == recipe.stage("grpo").algorithm
    assert small.stage("grpo").data == recipe.stage("grpo").data
    assert small.stage("grpo").groups_per_step == 4


def test_dry_run_starts_from_the_last_of_its_two_steps_where_the_recipe_names_another(recipe_path: Path) -> None:
    small = dry_run(load_recipe(recipe_path, ["stages.grpo.start_from=warm/step_000003"]))
    assert small.stage("grpo").start_from == "warm/final"


def test_dry_run_of_a_hub_model_needs_no_network(recipe_path: Path) -> None:
    text = recipe_path.read_text().replace("  init: {hidden_size: 64, layers: 2}\n", "  path: meta-llama/Llama-3-8B\n")
    recipe_path.write_text(text)
    small = dry_run(load_recipe(recipe_path, ["stages.warm.start_from=/elsewhere/checkpoint"]))
    assert small.model.path is None
    assert small.model.init is not None
    assert small.model.init.architecture == "llama"
    assert small.model.tokenizer.type == "byte"
    assert small.stage("warm").start_from is None
