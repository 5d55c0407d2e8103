"""`rlforge reward check` as a library: a function on a file of replies, through the router."""

import json
import re
from pathlib import Path

import pytest
import yaml

from rlforge.errors import ConfigError, DataError
from rlforge.rewards.check import run_check
from rlforge.rewards.router import Router

FUNCTION = """
def reward(rollout):
    if rollout.text == "boom":
        print("about to fail")
        raise ValueError("boom")
    if rollout.text == "?":
        return None
    return {"correct": rollout.text == rollout.task.answer}
"""


@pytest.fixture
def target(tmp_path):
    (tmp_path / "reward.py").write_text(FUNCTION)
    return f"{tmp_path}/reward.py:reward"


def write(folder, replies):
    path = folder / "replies.jsonl"
    rows = [{"prompt": "12+34=", "answer": "46", "reply": reply} for reply in replies]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_report_tells_outcomes_times_distribution_and_examples(target, tmp_path):
    report = run_check(target, write(tmp_path, ["46", "46", "46", "47", "boom", "boom", "?"]))
    assert report.outcomes == {"scored": 4, "exception": 2, "declined": 1}
    assert (report.scored, report.rollouts, report.ok) == (4, 7, False)
    assert (report.mean, report.low, report.high) == (0.75, 0, 1)
    assert [(part.low, part.count) for part in report.distribution] == [(0, 1), (1, 3)]
    assert [failure.kind for failure in report.failures] == ["exception", "declined", "exception"]
    assert report.failures[0].task == "line-5"
    assert report.failures[0].output == "about to fail\n"
    assert "reward.py:5 in reward" in report.failures[0].reason
    assert 0 < report.p50_s <= report.p99_s <= report.max_s <= report.wall_s
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    labels = dict(report.rows())
    assert labels["rollouts"] == "7"
    assert labels["unscored: line-5"].startswith("exception: ValueError: boom")


def test_spread_of_many_values_is_told_in_ten_bins(tmp_path):
    (tmp_path / "reward.py").write_text("def reward(rollout): return int(rollout.text) / 100")
    report = run_check(f"{tmp_path}/reward.py:reward", write(tmp_path, [str(number) for number in range(101)]))
    assert report.ok
    assert len(report.distribution) == 10
    assert sum(part.count for part in report.distribution) == 101
    assert (report.distribution[0].low, report.distribution[-1].high) == (0, 1)


def test_settings_are_those_of_the_scorer(tmp_path):
    (tmp_path / "reward.py").write_text("import time\ndef reward(rollout): time.sleep(60)")
    path = write(tmp_path, ["46"])
    report = run_check(f"{tmp_path}/reward.py:reward", path, timeout_s=0.3, attempts=1)
    assert report.outcomes == {"timeout": 1}
    assert report.mean is None
    with pytest.raises(ConfigError, match="Did you mean 'timeout_s'"):
        run_check(f"{tmp_path}/reward.py:reward", path, timeouts=1)


def test_bad_function_or_file_is_refused(target, tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        run_check(f"{tmp_path}/other.py:reward", write(tmp_path, ["46"]))
    with pytest.raises(DataError, match="there is no file"):
        run_check(target, tmp_path / "other.jsonl")


def test_guide_shows_what_really_happens(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "your-first-reward.md").read_text()
    blocks = dict(reversed(re.findall(r"```(\w+)\n(.*?)```", guide, re.DOTALL)))
    (tmp_path / "reward.py").write_text(blocks["python"])
    (tmp_path / "replies.jsonl").write_text(blocks["json"])
    report = run_check(f"{tmp_path}/reward.py:reward", tmp_path / "replies.jsonl")
    assert [(part.low, part.count) for part in report.distribution] == [(0, 1), (0.1, 1), (1, 1)]
    for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL):
        Router.Config.parse(yaml.safe_load(block)["rewards"])
