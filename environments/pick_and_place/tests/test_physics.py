"""What the table does: nothing is carried but by fingers, and nothing is moved but by motors, contact and gravity."""

import mujoco
import pytest
from pick_and_place.physics import CELLS, REACH, Table, centre, model


def carried(table: Table, cell: tuple[int, int], to: tuple[int, int]) -> Table:
    """Fetch the package at `cell`, which is within reach, raise it and move it towards `to`."""
    table.move(cell[0] - table.hand[0], cell[1] - table.hand[1])
    table.lift(up=False)
    table.grip(shut=True)
    table.lift(up=True)
    table.move(to[0] - cell[0], to[1] - cell[1])
    return table


@pytest.mark.parametrize("seed", range(8))
def test_a_package_is_carried_between_the_fingers_and_rests_at_its_goal_once_released(seed: int) -> None:
    table = carried(Table((1, 1), [(2, 3), (4, 4)], seed), (2, 3), (5, 0))
    assert table.held == 0
    assert table.height(0) > 0.1
    assert not table.rests_at(0, (5, 0))
    table.lift(up=False)
    assert not table.rests_at(0, (5, 0)), "it is still held"
    table.grip(shut=False)
    assert table.rests_at(0, (5, 0))
    assert table.rests_at(1, (4, 4))


def test_a_package_falls_when_the_fingers_open_in_the_air() -> None:
    table = carried(Table((1, 1), [(2, 3)], 0), (2, 3), (3, 3))
    table.grip(shut=False)
    assert table.held is None
    assert table.height(0) < 0.05


def test_fingers_that_stay_open_lift_nothing() -> None:
    table = Table((2, 3), [(2, 3)], 0)
    table.lift(up=False)
    table.lift(up=True)
    assert table.held is None
    assert table.height(0) == pytest.approx(0.02, abs=0.002)


def test_fingers_shut_beside_a_package_hold_nothing() -> None:
    table = Table((2, 2), [(2, 3)], 0)
    table.lift(up=False)
    table.grip(shut=True)
    assert table.held is None
    assert not table.open


def test_a_lowered_hand_pushes_what_is_in_its_way() -> None:
    table = Table((0, 3), [(2, 3)], 0)
    table.lift(up=False)
    table.move(3, 0)
    assert not table.rests_at(0, (2, 3))


def test_a_motion_is_bounded_by_its_reach_and_by_the_table() -> None:
    table = Table((0, 5), [(3, 3)], 0)
    table.move(9, 0)
    assert table.hand == (REACH, 5)
    table.move(3, 3)
    assert table.hand == (CELLS - 1, CELLS - 1)


def test_a_package_between_two_cells_is_not_at_its_goal() -> None:
    table = Table((0, 0), [(2, 2)], 0)
    assert table.rests_at(0, (2, 2))
    assert not table.rests_at(0, (2, 3))
    assert centre(3) - centre(2) == pytest.approx(0.08)


def test_the_scene_has_no_welds_and_packages_have_no_motors() -> None:
    scene = model(3)
    assert scene.neq == 0
    driven = {scene.joint(int(joint)).name for joint in scene.actuator_trnid[:, 0]}
    assert driven == {"x", "y", "z", "left", "right"}
    assert [scene.joint(number).type[0] for number in range(5, 8)] == [mujoco.mjtJoint.mjJNT_FREE] * 3


def test_the_same_seed_and_motions_end_in_the_same_state_to_the_last_bit() -> None:
    def end(seed: int) -> list[float]:
        table = carried(Table((1, 1), [(2, 3), (4, 4)], seed), (2, 3), (3, 4))
        return [float(number) for number in table._data.qpos]

    assert end(7) == end(7)
    assert end(7) != end(8)
