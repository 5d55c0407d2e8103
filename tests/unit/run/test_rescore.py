"""Rescoring a run folder: new scores beside the old ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlforge.cli.app import main
from rlforge.recipe import load_recipe
from rlforge.runlog.folder import RunFolder
from rlforge.runlog.rollouts import read_rollouts
from rlforge.types import Group, GroupRequest, Reward, Sampling, Score
from tests.rollouts import rollout

RECIPE = """
name: {name}
model: {{path: model}}
rewards: {{scorers: [{scorer}]}}
stages: [{{type: rl, name: grpo, steps: 2, data: [{{type: jsonl, path: tasks.jsonl}}]}}]
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two steps, eight rollouts each, every other one right and told so by `exact`."""
    own = tmp_path / "own.yaml"
    own.write_text(RECIPE.format(name="own", scorer="{type: regex, name: exact, pattern: '^{answer}$'}"))
    folder = RunFolder.create(tmp_path / "runs" / "own", load_recipe(own).yaml())
    for step in (1, 2):
        folder.metrics.append("grpo", step, {"reward/mean": 0.5})
        groups = [_group(f"{step}{index}") for index in range(2)]
        folder.write_rollouts("grpo", step, groups)
    folder.close()
    return folder.path


def _group(name: str) -> Group:
    members = []
    for member in range(4):
        value = float(member % 2)
        played = rollout("46" if member % 2 else "4 6", member=member, task=f"addition/{name}")
        reward = Reward(value=value, scores=(Score(scorer="exact", value=value),))
        members.append(replace(played, reward=reward, key=replace(played.key, group=name)))
    request = GroupRequest(task=members[0].task, group=name, size=4, sampling=Sampling(), seed=0)
    return Group(request=request, rollouts=tuple(members))


def test_new_scores_stand_beside_the_old_which_stay_byte_for_byte(run: Path, tmp_path: Path, capsys) -> None:
    old = {path.name: path.read_bytes() for path in (run / "rollouts").iterdir()}
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.format(name="lenient", scorer="{type: regex, name: digits, pattern: '4 ?6'}"))
    main_ok(["reward", "rescore", str(run), "--recipe", str(other), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == {"grpo": [1, 2]}
    assert told["before"]["reward"]["mean"] == 0.5
    assert told["after"]["reward"]["mean"] == 1.0
    assert set(told["before"]) == {"reward", "exact"}
    assert set(told["after"]) == {"reward", "digits"}
    assert {path.name: path.read_bytes() for path in (run / "rollouts").iterdir()} == old
    kept = read_rollouts(Path(told["kept_in"]) / "grpo-000002.parquet")
    assert [one.reward.value for one in kept if one.reward] == [1.0] * 8
    assert [one.turns for one in kept] == [one.turns for one in RunFolder.open(run).rollouts("grpo", 2)]


def test_every_time_has_a_folder_of_its_own_and_one_step_may_be_chosen(run: Path, capsys) -> None:
    places = []
    for _ in range(2):
        main_ok(["reward", "rescore", str(run), "--step", "2", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert (told["rollouts"], told["steps"]) == (8, {"grpo": [2]})
        assert told["before"] == told["after"]
        places.append(told["kept_in"])
    assert len(set(places)) == 2


def test_table_shows_before_and_after(run: Path, capsys) -> None:
    main_ok(["reward", "rescore", str(run)])
    out = capsys.readouterr().out
    assert "exact" in out
    assert "before" in out
    assert "16 of 16" in out


def test_step_that_is_not_there_is_refused_and_nothing_is_written(run: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["reward", "rescore", str(run), "--step", "9"])
    assert "it has: grpo 1 to 2" in capsys.readouterr().err
    assert not (run / "rescored").exists()


def main_ok(words: list[str]) -> None:
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code  # noqa: PT017
