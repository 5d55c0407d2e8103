"""The doctor finds what is wrong across keys, says why, and offers the way out."""

from pathlib import Path

import pytest

from rlforge.recipe import load_recipe
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
        ("rewards=null", "stages.grpo", "names no scorer"),
        ("generators.polcy=vllm", "generators.polcy", "nothing asks it. Did you mean 'policy'"),
        ("rewards.scorers=[{type: judge, generator: j, rubric: r}]", "rewards.scorers.0.generator", "Known: none"),
    ],
)
def test_rule_across_keys_says_why(sound: Path, override: str, key: str, words: str) -> None:
    assert words in str(_found(sound, override)[key])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("warm/step_000005", "takes steps 1 to 4, so none is called 'step_000005'; hint: warm/final"),
        ("warm/0", "takes steps 1 to 4"),
        ("warm/best", "no evaluations to find its best checkpoint by"),
        ("warm/before_anneal", "takes no step before an anneal"),
        ("warm/finl", "Did you mean 'final'"),
    ],
)
def test_start_from_a_checkpoint_that_the_earlier_stage_never_writes_is_refused(
    sound: Path, start: str, words: str
) -> None:
    finding = _found(sound, f"stages.grpo.start_from={start}")["stages.grpo.start_from"]
    assert (finding.severity, words in str(finding)) == ("error", True)


@pytest.mark.parametrize("start", ["warm", "warm/final", "warm/step_000003", "warm/3", "warm/4"])
def test_start_from_a_checkpoint_that_the_earlier_stage_writes_is_fine(sound: Path, start: str) -> None:
    assert _found(sound, f"stages.grpo.start_from={start}") == {}


@pytest.mark.parametrize("override", ["generators.policy.kv_cache_gb=1000000", "model.init.layers=100000000"])
def test_memory_is_planned_where_no_gpu_holds_it(
    sound: Path, override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "the machine has" in _found(sound, override)["model"].message
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert "model" not in _found(sound, override)


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


def test_function_is_imported_where_it_cannot_end_the_doctor_and_with_its_options(sound: Path) -> None:
    reward = sound.parent / "reward.py"
    reward.write_text("import os\nos._exit(3)\n")
    old = "    - type: regex\n      pattern: ^{answer}$"
    _change(sound, old, "    - {type: python, function: reward.py:reward, options: {scale: 2}}")
    assert "exit status 3" in _found(sound)["rewards.scorers.0.function"].message
    reward.write_text("def reward(rollout):\n    return 1.0\n")
    assert "cannot be called as reward(rollout, scale=…)" in _found(sound)["rewards.scorers.0.function"].message
    reward.write_text("def reward(rollout, scale):\n    return scale\n")
    assert _found(sound) == {}


def test_evaluation_that_ignores_weights_and_never_comes_to_a_source_is_told(sound: Path) -> None:
    (sound.parent / "more.jsonl").write_text('{"prompt": "9+9=", "answer": "18"}\n')
    data = "[{type: jsonl, path: tasks.jsonl, name: first, weight: 3}, {type: jsonl, path: more.jsonl}]"
    evaluation = f"evaluations: [{{data: {data}, limit: 20, max_new_tokens: 8}}]"
    _change(sound, "    algorithm: grpo\n", f"    algorithm: grpo\n    {evaluation}\n")
    found = _found(sound)
    assert "weight=3 does nothing" in found["stages.grpo.evaluations.0.data.0.weight"].message
    assert "use up limit=20" in found["stages.grpo.evaluations.0.data.1"].message
    assert {finding.severity for finding in found.values()} == {"warning"}
    assert "stages.grpo.evaluations.0.data.1" not in _found(sound, "stages.grpo.evaluations.0.limit=21")


@pytest.mark.parametrize("place", ["data", "evaluations.0.data"])
def test_two_sources_of_one_name_are_refused_in_training_and_in_evaluations(sound: Path, place: str) -> None:
    for folder in ("a", "b"):
        (sound.parent / folder).mkdir()
        (sound.parent / folder / "test.jsonl").write_text('{"prompt": "8+9=", "answer": "17"}\n')
    data = ", ".join(f"{{type: jsonl, path: {sound.parent}/{folder}/test.jsonl}}" for folder in ("a", "b"))
    evaluation = "evaluations: [{data: [{type: jsonl, path: a/test.jsonl, name: a}], max_new_tokens: 8}]"
    _change(sound, "    algorithm: grpo\n", f"    algorithm: grpo\n    {evaluation}\n")
    finding = _found(sound, f"stages.grpo.{place}=[{data}]")[f"stages.grpo.{place}.1.name"]
    assert finding.severity == "error"
    assert f"'test' is what stages.grpo.{place}.0 is called too" in finding.message


@pytest.mark.parametrize(
    "override", ["stages.warm.name=warm up", "stages.warm.name=sft/1", "stages.grpo.evaluations.0.name=held out"]
)
def test_name_that_cannot_be_part_of_a_file_name_is_refused(sound: Path, override: str) -> None:
    evaluation = "evaluations: [{data: [{type: jsonl, path: tasks.jsonl}]}]"
    _change(sound, "    algorithm: grpo\n", f"    algorithm: grpo\n    {evaluation}\n")
    [finding] = check_recipe(sound, [override])
    value = override.partition("=")[2]
    assert f"name='{value}': string should match pattern" in finding.message


def test_two_evaluations_of_one_name_are_refused_in_a_stage(sound: Path) -> None:
    evaluation = "{data: [{type: jsonl, path: tasks.jsonl}]}"
    [finding] = check_recipe(sound, [f"stages.grpo.evaluations=[{evaluation}, {evaluation}]"])
    assert "two are called 'held_out'" in finding.message


def test_evaluation_on_training_data_is_told(sound: Path) -> None:
    _change(
        sound,
        "    algorithm: grpo\n",
        "    algorithm: grpo\n    evaluations: [{data: [{type: jsonl, path: tasks.jsonl}], limit: 5}]\n",
    )
    finding = _found(sound)["stages.grpo.evaluations.0.data.0"]
    assert (finding.severity, "stages.grpo.data.0 trains on" in finding.message) == ("warning", True)


@pytest.mark.parametrize(
    ("scorer", "key", "words"),
    [
        ("{type: http, address: 'http://h:1', token: env:NO_SUCH_VARIABLE}", "token", "'env:NO_SUCH_VARIABLE'"),
        ("{type: judge, address: 'http://h:1', model: m, rubric_file: no.md}", "rubric_file", "there is no file"),
        ("{type: grpc, address: 'grpcs://h:1', tls: {ca: no.pem}}", "tls.ca", "no.pem'"),
    ],
)
def test_what_a_scorer_reads_when_it_starts_is_there_before_the_run(
    sound: Path, scorer: str, key: str, words: str
) -> None:
    assert words in str(_found(sound, f"rewards.scorers=[{scorer}]")[f"rewards.scorers.0.{key}"])


def test_resolved_recipe_passes_where_the_written_one_does(sound: Path) -> None:
    resolved = sound.parent / "resolved.yaml"
    resolved.write_text(load_recipe(sound).yaml())
    assert check_recipe(resolved) == []


def test_a_book_that_is_learned_in_one_step_is_told(sound: Path) -> None:
    (sound.parent / "book.txt").write_text("so it goes\n" * 4000)
    _change(sound, "{type: jsonl, path: conversations.jsonl}", "{type: text, path: book.txt}")
    _change(sound, "type: sft", "type: pretrain")
    finding = _found(sound)["stages.warm.data.0.separate"]
    assert (finding.severity, "44000 characters: 21 sequences of 512 tokens" in finding.message) == ("warning", True)
    assert _found(sound, "stages.warm.data.0.separate=lines") == {}


def test_model_folder_without_a_model_is_named(sound: Path) -> None:
    _change(sound, "  init: {hidden_size: 64, layers: 2}\n", "  path: ./model\n")
    assert "no model folder" in _found(sound)["model.path"].message
