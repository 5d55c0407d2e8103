"""The table, the gripper and the packages in MuJoCo; nothing is moved but by motors, contact and gravity."""

from functools import lru_cache
from importlib.resources import files

import mujoco
import numpy as np
from mujoco.rollout import rollout

CELLS = 6
"""Cells along each side of the table."""
CELL_M = 0.08
"""Side of a cell, in metres."""
REACH = 3
"""Cells that one motion may take the hand along each axis."""
TOLERANCE_M = 0.02
"""How far from the centre of its goal a package may rest, along each axis."""
_RESTING_HEIGHT_M = 0.02
_LIFT_M = 0.1
_SHUT_M = 0.034
_SPEED_M_S = 2.0
_SETTLE_S = 0.06
_FINGERS_S = 0.1
_FALL_S = 0.1
"""Time for a package that was let go to reach the table."""


@lru_cache
def model(packages: int) -> mujoco.MjModel:
    """The scene with that many packages; worlds of the same number share it."""
    scene = files(__package__).joinpath("scene.xml").read_text()
    bodies = "".join(f'<body name="{n}"><freejoint/><geom class="package" name="{n}"/></body>' for n in range(packages))
    return mujoco.MjModel.from_xml_string(scene.replace("<!-- packages -->", bodies))


def centre(cell: int) -> float:
    """Where the middle of a cell is, along x or y, in metres."""
    return (cell - (CELLS - 1) / 2) * CELL_M


def cell_of(place: float) -> int:
    """The cell in which a place lies, or the nearest one."""
    return int(np.clip(round(place / CELL_M + (CELLS - 1) / 2), 0, CELLS - 1))


class Table:
    """One world: a hand above a table with packages on it, each at a cell, a few millimetres and degrees off."""

    def __init__(self, hand: tuple[int, int], packages: list[tuple[int, int]], seed: int) -> None:
        self._model = model(len(packages))
        self._data = mujoco.MjData(self._model)
        self._state = np.empty(mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_FULLPHYSICS))
        self._packages = [self._model.body(str(number)) for number in range(len(packages))]
        self._fingers = {self._model.geom(f"{side} finger").id for side in ("left", "right")}
        random = np.random.default_rng(seed)
        self._data.qpos[:3] = centre(hand[0]), centre(hand[1]), _LIFT_M
        self._data.ctrl[:3] = self._data.qpos[:3]
        for body, cell in zip(self._packages, packages, strict=True):
            off, turn = random.uniform(-0.005, 0.005, 2), random.uniform(-0.1, 0.1) / 2
            start = self._model.jnt_qposadr[body.jntadr[0]]
            self._data.qpos[start : start + 3] = centre(cell[0]) + off[0], centre(cell[1]) + off[1], _RESTING_HEIGHT_M
            self._data.qpos[start + 3 : start + 7] = np.cos(turn), 0, 0, np.sin(turn)
        self._run(self._data.ctrl.copy(), _SETTLE_S)

    # --- motions ---------------------------------------------------------------------------------------------------

    def move(self, right: int, away: int) -> None:
        """Drive the hand by whole cells, at most REACH along each axis and not beyond the table."""
        target = self._data.ctrl.copy()
        for axis, cells in enumerate((right, away)):
            here = cell_of(self._data.ctrl[axis])
            target[axis] = centre(int(np.clip(here + np.clip(cells, -REACH, REACH), 0, CELLS - 1)))
        self._drive(target)

    def lift(self, up: bool) -> None:
        """Raise the hand above the packages, or lower it to the table."""
        target = self._data.ctrl.copy()
        target[2] = _LIFT_M if up else 0.0
        self._drive(target)

    def grip(self, shut: bool) -> None:
        """Press the fingers together, as hard as their motors can, or open them."""
        target = self._data.ctrl.copy()
        target[3:] = _SHUT_M if shut else 0.0
        self._run(target, _FINGERS_S, _FALL_S)

    def _drive(self, target: np.ndarray) -> None:
        distance = float(np.abs(target - self._data.ctrl).max())
        self._run(target, distance / _SPEED_M_S, _SETTLE_S)

    def _run(self, target: np.ndarray, travel_s: float, settle_s: float = 0.0) -> None:
        """Let the motors' set points glide to the target, then wait.

        One call for the whole motion: worlds in other threads compute meanwhile, none waits for Python at each step.
        """
        start, step = self._data.ctrl.copy(), self._model.opt.timestep
        moving, waiting = round(travel_s / step), round(settle_s / step)
        way = np.linspace(0, 1, moving + 1)[1:, None]
        points = np.concatenate([start + (target - start) * way, np.tile(target, (waiting, 1))])
        mujoco.mj_getState(self._model, self._data, self._state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        warm = self._data.qacc_warmstart.copy()
        rollout(self._model, self._data, self._state, points, initial_warmstart=warm)
        self._data.ctrl[:] = target

    # --- what can be seen ------------------------------------------------------------------------------------------

    @property
    def hand(self) -> tuple[int, int]:
        """The cell above which the hand is."""
        return cell_of(self._data.qpos[0]), cell_of(self._data.qpos[1])

    @property
    def up(self) -> bool:
        """Whether the hand is raised."""
        return bool(self._data.qpos[2] > _LIFT_M / 2)

    @property
    def open(self) -> bool:
        """Whether the fingers are apart."""
        return bool(self._data.qpos[3] + self._data.qpos[4] < 0.01)

    @property
    def held(self) -> int | None:
        """The package that both fingers touch."""
        touched = self._touched()
        return next((n for n, body in enumerate(self._packages) if touched.get(body.geomadr[0], 0) == 2), None)

    def cell(self, package: int) -> tuple[int, int]:
        """The cell over which a package is."""
        x, y, _ = self._data.xpos[self._packages[package].id]
        return cell_of(x), cell_of(y)

    def rests_at(self, package: int, goal: tuple[int, int]) -> bool:
        """Whether it lies on the table within tolerance of the goal's centre, still, and no finger touches it."""
        body = self._packages[package]
        x, y, z = self._data.xpos[body.id]
        near = abs(x - centre(goal[0])) <= TOLERANCE_M and abs(y - centre(goal[1])) <= TOLERANCE_M
        speed = float(np.abs(self._data.qvel[body.dofadr[0] : body.dofadr[0] + 6][:3]).max())
        lies = abs(z - _RESTING_HEIGHT_M) < 0.005 and speed < 0.01
        return near and lies and body.geomadr[0] not in self._touched()

    def height(self, package: int) -> float:
        """How high the middle of a package is above the table, in metres."""
        return float(self._data.xpos[self._packages[package].id][2])

    def _touched(self) -> dict[int, int]:
        """Geom -> how many fingers touch it."""
        pairs = {tuple(sorted(pair)) for pair in self._data.contact.geom[: self._data.ncon].tolist()}
        counts: dict[int, int] = {}
        for pair in pairs:
            for finger, other in (pair, pair[::-1]):
                if finger in self._fingers:
                    counts[other] = counts.get(other, 0) + 1
        return counts
