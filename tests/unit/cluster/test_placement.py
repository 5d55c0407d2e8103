"""Who gets how much of which GPU: every share fits on one card, and no card stays idle while others are shared."""

from __future__ import annotations

import math

import pytest

from rlforge.cluster.placement import generator_gpus, learner_gpus
from rlforge.errors import ConfigError

HALF, THIRD = 0.5, 0.3333


@pytest.mark.parametrize(
    ("gpus", "spreads", "generators", "learner"),
    [
        (0, [1, 1], [0, 0], 0),
        (0, [2], [0], 0),
        (1, [], [], 1),
        (1, [1], [HALF], HALF),
        (1, [1, 1], [THIRD] * 2, THIRD),
        (2, [1], [1], 1),
        (2, [1, 1], [1, HALF], HALF),
        (2, [1] * 3, [HALF] * 3, HALF),
        (2, [1] * 4, [THIRD] * 4, THIRD),
        (8, [1] * 8, [*[1] * 7, HALF], HALF),
        (8, [1] * 7, [1] * 7, 1),
        (3, [2], [2], 1),
        (3, [2, 1], [2, HALF], HALF),
        (4, [1, 2], [1, 2], 1),
        (8, [2, 2, 2, 1, 1], [2, 2, 2, 1, HALF], HALF),
    ],
)
def test_whole_gpus_where_there_are_enough_and_else_shares_of_one_card(
    gpus: int, spreads: list[int], generators: list[float], learner: float
) -> None:
    assert (generator_gpus(gpus, spreads), learner_gpus(gpus, spreads)) == (generators, learner)


def test_every_part_finds_room_on_one_card_and_every_card_is_used() -> None:
    for gpus in range(1, 9):
        for replicas in range(40):
            shares = [*generator_gpus(gpus, [1] * replicas), learner_gpus(gpus, [1] * replicas)]
            shared = [share for share in shares if share < 1]
            cards = len(shares) - len(shared)
            if shared:
                assert len(set(shared)) == 1
                cards += math.ceil(len(shared) / math.floor(1 / shared[0]))
            assert cards == min(gpus, len(shares))


@pytest.mark.parametrize(
    ("gpus", "spreads", "said"),
    [
        (1, [2], "need 2 whole ones;"),
        (2, [2, 1], "the other generators at least one more"),
        (3, [2, 2], "need 4 whole"),
    ],
)
def test_generators_that_find_no_room_are_refused_with_a_way_out(gpus: int, spreads: list[int], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        generator_gpus(gpus, spreads)
    assert f"on {gpus} GPUs" in str(refused.value)
    assert "lower their tensor_parallel or replicas" in str(refused.value)


def test_a_learner_that_whole_gpus_leave_nothing_is_refused_though_an_evaluation_alone_would_fit() -> None:
    assert generator_gpus(2, [2]) == [2.0]
    with pytest.raises(ConfigError, match=r"on 2 GPUs.* need 2 whole ones, and the learner at least one more"):
        learner_gpus(2, [2])
