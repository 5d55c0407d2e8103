"""Recipes are strict and say where they are wrong."""

from pathlib import Path

import pytest

from rlforge.errors import ConfigError
from rlforge.recipe import load_recipe, read_document
from rlforge.recipe.strict_yaml import parse_yaml


def _change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_recipe_holds_the_classes_of_its_parts(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    assert [(stage.type, stage.name) for stage in recipe.stage_list] == [("sft", "warm"), ("rl", "grpo")]
    assert recipe.stage("warm").learner.lr == 1e-3
    assert type(recipe.stage("grpo").algorithm).__qualname__ == "GRPO.Config"


def test_resolved_recipe_reads_back_equal(recipe_path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "recipe.yaml").write_text(recipe.yaml())
    assert load_recipe(elsewhere) == recipe


def test_relative_paths_start_at_the_recipe(recipe_path: Path) -> None:
    assert load_recipe(recipe_path).stage("grpo").data[0].path == str(recipe_path.parent / "tasks.jsonl")


def test_relative_path_of_an_override_starts_where_you_are(
    recipe_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    recipe = load_recipe(recipe_path, ["stages.grpo.data.0.path=mine.jsonl"])
    assert recipe.stage("grpo").data[0].path == str(here / "mine.jsonl")
    assert recipe.runs_dir == str(here / "runs")


def test_unknown_key_is_named_with_its_line_and_a_suggestion(recipe_path: Path) -> None:
    _change(recipe_path, "group_size: 4", "group_sise: 4")
    with pytest.raises(
        ConfigError, match=r"recipe.yaml:24: stages.grpo: unknown key 'group_sise'. Did you mean 'group_size'"
    ):
        load_recipe(recipe_path)


def test_wrong_type_is_named_with_its_line(recipe_path: Path) -> None:
    _change(recipe_path, "group_size: 4", "group_size: many")
    with pytest.raises(ConfigError, match=r"recipe.yaml:24: stages.grpo: group_size='many'"):
        load_recipe(recipe_path)


def test_unknown_algorithm_is_named_with_a_suggestion(recipe_path: Path) -> None:
    _change(recipe_path, "algorithm: grpo", "algorithm: grp0")
    with pytest.raises(ConfigError, match=r"unknown algorithm 'grp0'. Did you mean 'grpo'"):
        load_recipe(recipe_path)


def test_duplicate_key_is_refused_with_both_lines(recipe_path: Path) -> None:
    _change(recipe_path, "    group_size: 4", "    group_size: 4\n    group_size: 8")
    with pytest.raises(
        ConfigError, match=r"recipe.yaml:25: 'group_size' stands here a second time \(first on line 24\)"
    ):
        load_recipe(recipe_path)


def test_stage_names_are_unique(recipe_path: Path) -> None:
    _change(recipe_path, "name: grpo", "name: warm")
    with pytest.raises(ConfigError, match="two stages are called 'warm'"):
        load_recipe(recipe_path)


def test_model_is_found_or_made_but_not_both(recipe_path: Path) -> None:
    _change(recipe_path, "model:\n", "model:\n  path: Qwen/Qwen3-0.6B\n")
    with pytest.raises(ConfigError, match="exactly one"):
        load_recipe(recipe_path)


def test_secret_is_refused(recipe_path: Path) -> None:
    _change(recipe_path, "name: add\n", "name: add\napi_key: abc\n")
    with pytest.raises(ConfigError, match="holds a secret"):
        load_recipe(recipe_path)


def test_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_recipe(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="is not a recipe"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "torn.yaml").write_text("a: [1\nb: 2\n")
    with pytest.raises(ConfigError, match=r"torn.yaml:2: not valid YAML"):
        load_recipe(tmp_path / "torn.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1", 1),
        ("-1.5", -1.5),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("", None),
        ("12:30", "12:30"),
        ("010", 10),
        ("[a, 1]", ["a", 1]),
        ("'1'", "1"),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    assert parse_yaml(f"x: {text}", "test").data["x"] == value


# --- overrides -------------------------------------------------------------------------------------------------


def test_override_of_a_stage_field_reaches_every_stage_that_has_it(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["learner.lr=5e-4", "group_size=6"])
    assert [stage.learner.lr for stage in recipe.stage_list] == [5e-4, 5e-4]
    assert recipe.stage("grpo").group_size == 6


def test_override_of_one_stage_leaves_the_others(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["stages.warm.steps=9", "seed=3"])
    assert [stage.steps for stage in recipe.stage_list] == [9, 4]
    assert recipe.seed == 3


def test_override_below_a_part_named_in_one_word_keeps_its_type(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, ["algorithm.std=false", "generators.policy.replicas=2"])
    assert recipe.stage("grpo").algorithm.std is False
    assert recipe.generators["policy"].replicas == 2
    assert recipe.generators["policy"].type == "vllm"


def test_override_below_a_part_that_the_recipe_leaves_out_takes_the_default_type(recipe_path: Path) -> None:
    _change(recipe_path, "    algorithm: grpo\n", "")
    assert load_recipe(recipe_path, ["algorithm.std=false"]).stage("grpo").algorithm.type == "grpo"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learne.lr=1", "Did you mean 'learner'"),
        ("learner.lrr=1", "Did you mean 'lr'"),
        ("stages.grp.steps=1", "Did you mean 'grpo'"),
        ("stages.grpo.data.3.path=x", "write a number below 1"),
        ("learner.lr.x=1", "has no keys below it"),
        ("steps", "not of the form key=value"),
        ("cluster=ray", r"cluster='ray': input should be a mapping, \{key: value\}. Known keys: .*type"),
        ("data=tasks.jsonl", "data='tasks.jsonl': input should be a list"),
    ],
)
def test_wrong_override_is_refused_with_the_way_out(recipe_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe_path, [override])


def test_every_value_knows_its_origin(recipe_path: Path) -> None:
    document = read_document(recipe_path, ["learner.lr=5e-4"])
    assert document.origin(("stages", 1, "learner", "lr")) == "override"
    assert document.origin(("stages", 1, "group_size")) == "recipe.yaml:24"
    assert document.origin(("stages", 1, "algorithm", "type")) == "recipe.yaml:26"
    assert document.origin(("stages", 1, "algorithm", "std")) == "default"
    assert document.origin(("seed",)) == "default"
