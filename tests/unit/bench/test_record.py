"""What a bench prints with `--json`."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from rlforge.bench import BENCHES
from rlforge.bench.resume import Kill
from rlforge.bench.runner import BenchResult, as_record, as_text
from rlforge.cli import main

RESULT = BenchResult(name="learn", value=61000.0, unit="tokens/s", ratio=1.12, samples=(1.0, 2.0), extra={"steps": 3})


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    assert not leave.value.code
    return capsys.readouterr().out


def test_a_record_holds_the_figure_what_explains_it_and_where_it_was_measured() -> None:
    record = json.loads(json.dumps(as_record(RESULT)))
    assert list(record) == ["name", "value", "unit", "ratio", "samples", "extra", "machine", "versions"]
    assert {field.name for field in fields(BenchResult)} <= set(record)
    assert (record["name"], record["value"], record["unit"], record["ratio"]) == ("learn", 61000.0, "tokens/s", 1.12)
    assert (record["samples"], record["extra"]) == ([1.0, 2.0], {"steps": 3})
    assert set(record["machine"]) == {"processor", "cores", "memory_gb", "system", "python"}
    assert {"rlforge", "torch"} <= set(record["versions"])


def test_a_person_reads_the_same_figure() -> None:
    assert as_text(RESULT).startswith("learn: 6.1e+04 tokens/s, 1.120 of the raw part\n  steps: 3")


def test_the_list_of_benches_is_json_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "bench", "list").split() == sorted(BENCHES)
    assert json.loads(printed(capsys, "bench", "list", "--json")) == {"benches": sorted(BENCHES)}


def test_a_kill_counts_only_where_it_hit_and_left_the_weights_as_they_were() -> None:
    hit = Kill(phase="optimizer", step=3, doing="learn", identical=True)
    missed = Kill(phase="optimizer", step=3, doing="collect", identical=True)
    other = Kill(phase="optimizer", step=3, doing="learn", identical=False)
    assert [kill.survived for kill in (hit, missed, other)] == [True, False, False]
