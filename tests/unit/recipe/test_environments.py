"""Environments in a recipe: said once, checked against what plays in them."""

from pathlib import Path

import pytest

from rlforge.recipe.check import check_document, check_recipe
from rlforge.recipe.dry_run import dry_run
from rlforge.recipe.load import load_recipe, read_document
from rlforge.recipe.show import settings

WORLD = """
class Guess:
    tasks = {"train": [{"id": n, "prompt": "guess", "answer": n} for n in range(9)], "test": [{"id": 0, "prompt": "?"}]}

    def reset(self, task, seed):
        return "which?"

    def step(self, action):
        return "no", 0.0, False, False, {}
"""
RECIPE = """\
name: guess
model:
  init: {hidden_size: 64, layers: 2, context: 512}
  tokenizer: {type: byte}
environments:
  guess: {address: python:world.py:Guess}
rewards:
  scorers: [{type: environment}]
stages:
  - type: rl
    name: grpo
    data: [{type: environment, environment: guess}]
    steps: 4
    groups_per_step: 4
    sampling: {max_new_tokens: 8}
    orchestrator: {type: environment_loop, max_turns: 6}
    evaluations:
      - {data: [{type: environment, environment: guess, name: guess_test, tasks: test}], max_new_tokens: 8}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "world.py").write_text(WORLD)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def found(path: Path, *overrides: str) -> list[tuple[str, str, str]]:
    return [(f.severity, f.key, f.message) for f in check_document(read_document(path, overrides))]


def test_a_sound_recipe_has_no_findings(path: Path) -> None:
    assert check_recipe(path) == []


def test_a_relative_file_of_an_environment_starts_at_the_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.environments["guess"].address == f"python:{path.parent}/world.py:Guess"
    shown = {setting.key: setting for setting in settings(read_document(path), recipe)}
    assert shown["environments.guess.address"].origin == "recipe.yaml:6"
    assert shown["environments.guess.sources"].origin == "default"


def test_a_secret_is_named_and_never_written(path: Path) -> None:
    recipe = load_recipe(path, ["environments.guess.token=file:token.txt"])
    assert recipe.environments["guess"].token == f"file:{Path.cwd()}/token.txt"


def test_a_dry_run_keeps_the_environment_and_shortens_rollouts(path: Path) -> None:
    short = dry_run(load_recipe(path))
    assert short.environments == load_recipe(path).environments
    assert short.stage("grpo").orchestrator.max_turns == 4  # type: ignore[attr-defined]


def test_an_environment_that_is_not_there_is_named_with_a_suggestion(path: Path) -> None:
    path.write_text(RECIPE.replace("environment: guess}]\n", "environment: gues}]\n"))
    (finding,) = [f for f in found(path) if f[1] == "stages.grpo.data.0"]
    assert finding[0] == "error"
    assert "unknown environment 'gues'. Did you mean 'guess'? Known: guess" in finding[2]


def test_a_split_that_is_not_there_is_named_with_those_there_are(path: Path) -> None:
    path.write_text(RECIPE.replace("tasks: test", "tasks: tests"))
    (finding,) = found(path)
    assert "lists no split 'tests'. Did you mean 'test'? Known: train, test" in finding[2]


def test_tasks_that_no_environment_plays_are_refused(path: Path) -> None:
    path.write_text(
        RECIPE.replace("rewards:\n", "  other: {address: 'python:world.py:Guess', sources: [nobody]}\nrewards:\n")
    )
    keys = {(severity, key) for severity, key, _ in found(path)}
    assert keys == {("error", "stages.grpo.evaluations.0.data.0"), ("warning", "environments.other.sources")}


def test_an_endpoint_that_does_not_answer_is_a_warning_of_the_check_alone(path: Path) -> None:
    path.write_text(RECIPE.replace("python:world.py:Guess", "grpc://127.0.0.1:9"))
    findings = check_recipe(path, ["environments.guess.connect_timeout_s=0.2"])
    assert {finding.severity for finding in findings} == {"warning"}
    assert "environments.guess" in {finding.key for finding in findings}
    assert len(findings) > 1
    assert len({finding.message for finding in findings}) == 1, "it is asked once, however many sources it has"


def test_the_scorer_environment_without_a_world_is_refused(path: Path) -> None:
    path.write_text(RECIPE.replace("    orchestrator: {type: environment_loop, max_turns: 6}\n", ""))
    (finding,) = found(path)
    assert finding[:2] == ("error", "stages.grpo.orchestrator")


def test_limits_on_tokens_are_held_against_the_context(path: Path) -> None:
    (beyond,) = found(path, "stages.grpo.orchestrator.max_tokens=600")
    assert beyond[0] == "warning"
    assert "beyond the context of 512" in beyond[2]
    (short,) = found(path, "stages.grpo.orchestrator.max_tokens=8")
    assert "no room for a prompt" in short[2]


def test_credit_by_turns_wants_the_worlds_rewards_as_they_are(path: Path) -> None:
    assert found(path, "stages.grpo.algorithm={type: grpo, credit: turns}") == []
    path.write_text(RECIPE.replace("{type: environment}]", "{type: environment, weight: 0.5}]"))
    (finding,) = found(path, "stages.grpo.algorithm={type: grpo, credit: turns}")
    assert (finding[0], finding[1]) == ("warning", "stages.grpo.algorithm.credit")
