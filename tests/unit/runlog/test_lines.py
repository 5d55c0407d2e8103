"""Lines that survive a kill."""

import math
from pathlib import Path

import pytest

from rlforge.errors import RunError
from rlforge.runlog.lines import JsonLines
from rlforge.runlog.metrics import MetricsLog


def test_half_written_last_line_is_ignored_and_cut_off_by_the_next_append(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "x.jsonl", schema=1)
    lines.append({"n": 1})
    with lines.path.open("ab") as file:
        file.write(b'{"schema":1,"n":')
    assert [line["n"] for line in lines.read()] == [1]
    lines.append({"n": 2})
    assert [line["n"] for line in lines.read()] == [1, 2]


def test_broken_line_in_the_middle_is_named_by_its_number(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "x.jsonl", schema=1)
    lines.append({"n": 1})
    with lines.path.open("ab") as file:
        file.write(b"garbage\n")
    with pytest.raises(RunError, match=r"x\.jsonl:2 is not JSON"):
        lines.read()


def test_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    JsonLines(tmp_path / "x.jsonl", schema=2).append({"n": 1})
    with pytest.raises(RunError, match="schema version 2, this rlforge reads up to 1"):
        JsonLines(tmp_path / "x.jsonl", schema=1).read()


def test_metrics_go_back_to_a_step_and_drop_later_stages(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("sft", 1, {"learner/loss": 1.0})
    log.append("sft", 2, {"learner/loss": 0.5})
    log.append("grpo", 0, {"eval/held_out/accuracy": 0.1}, evaluation="held_out")
    log.append("grpo", 1, {"reward/mean": math.nan})
    log.append("grpo", 2, {"reward/mean": 0.5})
    assert log.truncate_after("grpo", 1) == 1
    assert [r.step for r in log.records("grpo")] == [1]
    assert math.isnan(log.records("grpo")[0].metrics["reward/mean"])
    assert log.evaluations("grpo")[0].metrics == {"eval/held_out/accuracy": 0.1}
    assert log.truncate_after("sft", 1) == 3
    assert [(r.stage, r.step) for r in log.records()] == [("sft", 1)]
    assert log.truncate_after("sft", -1) == 1


def test_going_back_in_a_stage_without_lines_keeps_the_others(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("sft", 1, {})
    assert log.truncate_after("grpo", 0) == 0
    assert len(log.records()) == 1


def test_half_a_surrogate_pair_costs_a_character(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "x.jsonl", schema=1)
    lines.append({"said": "a\ud83db"})
    assert [line["said"] for line in lines.read()] == ["a?b"]
