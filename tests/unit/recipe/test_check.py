"""The doctor finds what is wrong across keys, says why, and offers the way out."""

from pathlib import Path

import pytest

from rlforge.recipe.check import check_recipe
from rlforge.recipe.findings import Finding


def _found(path: Path, *overrides: str) -> dict[str, Finding]:
    return {finding.key: finding for finding in check_recipe(path, overrides)}


def _change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.fixture
def sound(recipe_path: Path) -> Path:
    rows = (f'{{"prompt": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(20))
    (recipe_path.parent / "tasks.jsonl").write_text("".join(rows))
    return recipe_path


def test_sound_recipe_gives_no_findings(sound: Path) -> None:
    assert check_recipe(sound) == []


def test_every_schema_error_is_a_finding(sound: Path) -> None:
    findings = check_recipe(sound, ["group_size=many", "stages.warm.steps=0"])
    assert len(findings) == 2
    assert all("override: stages." in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("group_size=1", "stages.grpo.group_size", "zero advantage under grpo; hint: group_size >= 2"),
        ("sampling.temperature=0", "stages.grpo.sampling.temperature", "same reply for every member"),
        ("sampling.top_k=1", "stages.grpo.sampling.top_k", "same reply for every member"),
        ("sampling.top_p=0.9", "stages.grpo.sampling.top_p", "every importance weight of grpo is off"),
        (
            "sampling.max_new_tokens=512",
            "stages.grpo.sampling.max_new_tokens",
            "no room for a prompt in a context of 512",
        ),
        ("stages.warm.max_tokens=4096", "stages.warm.max_tokens", "longer than the model's context"),
        ("groups_per_step=21", "stages.grpo.groups_per_step", "there are 20 tasks: a step repeats tasks"),
        ("cluster.rollout_workers=5", "stages.grpo.groups_per_step", "some stay idle"),
        ("stages.grpo.data.0.path=gone.jsonl", "stages.grpo.data.0", "gone.jsonl"),
        ("stages.grpo.start_from=wurm/final", "stages.grpo.start_from", "Did you mean 'warm'"),
        ("stages.warm.start_from=grpo/final", "stages.warm.start_from", "neither a stage before this one"),
        ("rewards.scorers.0.sources=[subtraction]", "stages.grpo.data.0", "no scorer that counts judges"),
        ("rewards.scorers.0.sources=[taskz]", "rewards.scorers.0.sources", "Did you mean 'tasks'"),
        (
            "stages.grpo.stop_when={metric: eval/x/accuracy, at_least: 1}",
            "stages.grpo.stop_when.metric",
            "no evaluation",
        ),
        ("generators.policy.kv_cache_gb=1000000", "model", "the machine has"),
        ("model.init.layers=100000000", "model", "the machine has"),
        ("rewards=null", "stages.grpo", "names no scorer"),
    ],
)
def test_rule_across_keys_says_why(sound: Path, override: str, key: str, words: str) -> None:
    assert words in str(_found(sound, override)[key])


def test_stage_that_gets_the_wrong_kind_of_data_is_named(sound: Path) -> None:
    path = sound.parent / "conversations.jsonl"
    assert "gives conversations" in _found(sound, f"stages.grpo.data.0.path={path}")["stages.grpo.data.0"].message


def test_min_lr_above_lr_is_refused(sound: Path) -> None:
    [finding, *_] = check_recipe(sound, ["learner.schedule.min_lr=1"])
    assert "min_lr" in finding.message


def test_pattern_that_does_not_compile_is_refused_with_its_line(sound: Path) -> None:
    _change(sound, "pattern: ^{answer}$", "pattern: '(['")
    [finding] = check_recipe(sound)
    assert finding.severity == "error"
    assert "recipe.yaml:" in finding.message


def test_function_that_does_not_import_is_refused(sound: Path) -> None:
    (sound.parent / "reward.py").write_text("def other(rollout):\n    return 1.0\n")
    _change(
        sound, "    - type: regex\n      pattern: ^{answer}$", "    - type: python\n      function: reward.py:reward"
    )
    assert "reward" in _found(sound)["rewards.scorers.0.function"].message


def test_evaluation_on_training_data_is_told(sound: Path) -> None:
    _change(
        sound,
        "    algorithm: grpo\n",
        "    algorithm: grpo\n    evaluations: [{data: [{type: jsonl, path: tasks.jsonl}], limit: 5}]\n",
    )
    finding = _found(sound)["stages.grpo.evaluations.0.data.0"]
    assert (finding.severity, "stages.grpo.data.0 trains on" in finding.message) == ("warning", True)


def test_model_folder_without_a_model_is_named(sound: Path) -> None:
    _change(sound, "  init: {hidden_size: 64, layers: 2}\n", "  path: ./model\n")
    assert "no model folder" in _found(sound)["model.path"].message
