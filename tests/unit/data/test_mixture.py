import collections
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlforge.data.mixture import Mixture
from rlforge.data.permutation import permute
from rlforge.data.schedule import Schedule
from rlforge.errors import DataError
from rlforge.types import Document


class Numbered:
    """A source of as many documents as wanted."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Document:
        return Document(id=f"{self.name}/{index}", text="x", source=self.name)


def ids(mixture: Mixture, positions: Sequence[int]) -> list[str]:
    return [mixture.at(position).item.id for position in positions]


@given(size=st.integers(1, 300), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=40)
def test_a_permutation_meets_every_place_once(size: int, seed: int) -> None:
    assert sorted(permute(index, size, seed) for index in range(size)) == list(range(size))


def test_all_orders_of_four_items_are_about_equally_likely() -> None:
    orders = collections.Counter(tuple(permute(index, 4, seed) for index in range(4)) for seed in range(2400))
    assert len(orders) == 24
    assert all(60 < count < 150 for count in orders.values())  # 100 expected, standard deviation 10


@given(weights=st.lists(st.floats(0.05, 20), min_size=1, max_size=5), offset=st.integers(0, 2**64 - 1))
@settings(max_examples=30)
def test_counts_are_exact_and_shares_never_stray_from_the_weights(weights: list[float], offset: int) -> None:
    schedule = Schedule(weights, offset)
    counts = [0] * len(weights)
    for position in range(200):
        assert [schedule.count(source, position) for source in range(len(weights))] == counts
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - position * weight / sum(weights)) < 5
        counts[schedule.choice(position)] += 1


def test_every_item_appears_once_in_each_epoch_of_its_source() -> None:
    mixture = Mixture([Numbered("a", 7), Numbered("b", 3)], [2, 1], seed=5)
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    last: dict[str, int] = {}
    for drawn in mixture.slice(0, 300):
        seen[drawn.item.id, drawn.epoch] += 1
        last[drawn.source] = drawn.epoch
    assert set(seen.values()) == {1}
    whole = {key for key in seen if key[1] < last[key[0].split("/")[0]]}
    assert len(whole) == 7 * last["a"] + 3 * last["b"]


def test_what_stands_at_a_position_does_not_depend_on_how_one_came_there() -> None:
    mixture = Mixture([Numbered("a", 50), Numbered("b", 20)], seed=1)
    forward = ids(mixture, range(100))
    again = Mixture([Numbered("a", 50), Numbered("b", 20)], seed=1)
    assert ids(again, range(99, -1, -1)) == forward[::-1]
    assert mixture.at(10**12).epoch > 10**9  # no replay, however far


def test_epochs_and_seeds_shuffle_differently() -> None:
    mixture = Mixture([Numbered("a", 50)], seed=1)
    first, second = ids(mixture, range(50)), ids(mixture, range(50, 100))
    assert sorted(first) == sorted(second)
    assert len({tuple(first), tuple(second), tuple(ids(Mixture([Numbered("a", 50)], seed=2), range(50)))}) == 3


def test_the_order_within_a_source_does_not_depend_on_its_neighbours() -> None:
    alone = ids(Mixture([Numbered("a", 50)], seed=1), range(50))
    together = ids(Mixture([Numbered("a", 50), Numbered("b", 20)], [1, 3], seed=1), range(300))
    assert [item for item in together if item.startswith("a/")][:50] == alone


def test_the_stream_never_changes_from_one_version_to_the_next() -> None:
    assert ids(Mixture([Numbered("a", 9), Numbered("b", 9)], [2, 1], seed=3), range(8)) == [
        "a/1",
        "a/8",
        "a/7",
        "b/4",
        "a/3",
        "a/5",
        "b/8",
        "a/4",
    ]


@pytest.mark.parametrize(
    ("sources", "weights", "wrong"),
    [
        ([], None, "at least one source"),
        ([Numbered("a", 0)], None, "source 'a' has no items"),
        ([Numbered("a", 1), Numbered("a", 2)], None, "two sources are called 'a'"),
        ([Numbered("a", 1)], [0.0], "weights above 0"),
        ([Numbered("a", 1)], [1.0, 1.0], "as many weights"),
    ],
)
def test_mixtures_that_cannot_work_are_refused(
    sources: list[Numbered], weights: list[float] | None, wrong: str
) -> None:
    with pytest.raises(DataError, match=wrong):
        Mixture(sources, weights)


def test_there_is_nothing_before_the_beginning() -> None:
    with pytest.raises(DataError, match="nothing at -1"):
        Mixture([Numbered("a", 1)]).at(-1)
