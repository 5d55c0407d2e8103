"""What a run says it is doing."""

from __future__ import annotations

from pathlib import Path

from rlforge.runlog.activity import ActivityFile


def test_a_short_activity_replaces_a_long_one(tmp_path: Path) -> None:
    activity = ActivityFile(tmp_path / "activity.json")
    activity.begin("a-stage-with-a-long-name", 123456, "checkpoint")
    activity.begin("a", 1, "learn")
    said = activity.read()
    assert said is not None
    assert (said.stage, said.step, said.doing) == ("a", 1, "learn")
    assert said.since > 0


def test_nothing_has_been_said_before_the_first(tmp_path: Path) -> None:
    assert ActivityFile(tmp_path / "activity.json").read() is None


def test_what_was_said_stays_after_the_writer(tmp_path: Path) -> None:
    writer = ActivityFile(tmp_path / "activity.json")
    writer.begin("grpo", 7, "publish")
    writer.close()
    writer.close()
    said = ActivityFile(tmp_path / "activity.json").read()
    assert said is not None
    assert said.doing == "publish"


def test_a_stage_name_of_any_length_fits(tmp_path: Path) -> None:
    activity = ActivityFile(tmp_path / "activity.json")
    activity.begin("s" * 500, 1, "learn")
    said = activity.read()
    assert said is not None
    assert set(said.stage) == {"s"}
