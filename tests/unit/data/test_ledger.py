import json

import pytest

from rlforge.data.ledger import Entry, Ledger
from rlforge.data.mixture import Mixture
from rlforge.errors import RunError
from rlforge.types import Document


class Letters:
    """Four documents."""

    name = "letters"

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Document:
        return Document(id=f"letters/{'abcd'[index]}", text="x")


STREAM = Mixture([Letters()], seed=0)


def entry(position: int) -> Entry:
    drawn = STREAM.at(position)
    return Entry(position=position, task_id=drawn.item.id, epoch=drawn.epoch, attempts=(0, 1))


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    for step in range(3):
        made.record(step, [entry(2 * step), entry(2 * step + 1)])
    return made


def test_a_complete_ledger_passes_and_counts(ledger: Ledger) -> None:
    ledger.check(0, 6, STREAM)
    assert (len(ledger), ledger.step, ledger.entries(1)) == (6, 2, (entry(2), entry(3)))
    assert ledger.pending(4, 8) == [6, 7]


def test_a_lost_draw_is_named(ledger: Ledger) -> None:
    ledger.record(3, [entry(7)])
    with pytest.raises(RunError, match="1 of the draws 0 to 7 were lost, first position 6"):
        ledger.check(0, 8)


def test_a_draw_beyond_the_stream_position_is_named(ledger: Ledger) -> None:
    with pytest.raises(RunError, match=r"position 5\) lies outside the draws 0 to 4"):
        ledger.check(0, 5)


def test_no_draw_is_trained_twice(ledger: Ledger) -> None:
    for again in (entry(3), Entry(position=99, task_id=entry(3).task_id, epoch=0)):
        with pytest.raises(RunError, match=r"step 3 trains task .* again"):
            ledger.record(3, [entry(6), again])
    with pytest.raises(RunError, match=r"step 3 trains task .* again"):
        ledger.record(3, [entry(6), entry(6)])
    ledger.record(3, [entry(6), entry(7)])  # a refused record leaves nothing behind


def test_steps_come_in_order(ledger: Ledger) -> None:
    with pytest.raises(RunError, match="step 2 comes after step 2"):
        ledger.record(2, [entry(6)])


def test_a_changed_data_set_is_noticed(ledger: Ledger) -> None:
    with pytest.raises(RunError, match="the data or the seed changed"):
        ledger.check(0, 6, Mixture([Letters()], seed=1))


def test_a_ledger_cut_to_a_step_can_be_written_again(ledger: Ledger) -> None:
    cut = ledger.truncated(1)
    cut.check(0, 4, STREAM)
    cut.record(2, [entry(4), entry(5)])
    assert cut.to_json() == ledger.to_json()
    assert ledger.truncated(-1).step is None


def test_json_and_back(ledger: Ledger) -> None:
    data = json.loads(json.dumps(ledger.to_json()))
    assert Ledger.from_json(data).to_json() == ledger.to_json()
    with pytest.raises(RunError, match="schema version 99 is not 1"):
        Ledger.from_json({**data, "schema_version": 99})
