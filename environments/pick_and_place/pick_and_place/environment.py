"""The environment: tasks, turns and rewards around the table."""

from typing import Any

import numpy as np

from pick_and_place.language import RULES, Action, Package, State
from pick_and_place.physics import CELLS, Table
from rlforge.types import Message, Task

LEVELS = {"easy": {"packages": 1, "span": 3}, "normal": {"packages": 2, "span": 5}, "hard": {"packages": 3, "span": 5}}
"""Number of packages, and how many cells at most one is from its goal along each axis."""
PARTS = {"train": (0, 4096), "validation": (1_000_000, 512), "test": (2_000_000, 512)}
"""First layout and number of layouts of each part: to train on, to decide by, to measure on."""
TURNS_PER_PACKAGE = 12
"""Turns allowed for each package; the expert takes eight."""


class PickAndPlace:
    """One world in Gymnasium's shape. `task.info` says `layout` (a seed), `packages`, `span`, `turns`, `per_turn`.

    The turn by which all packages rest at their goals, released, earns 1 and ends the task; every other earns 0, and
    the last one allowed ends it too. With `per_turn` each turn earns (or loses) the share of the packages that came
    home (or left it) by it.
    """

    name = "pick_and_place"
    version = "1"
    deterministic = True
    step_timeout_s = 10.0
    splits = tuple(f"{part}{level}" for level in ("", "_easy", "_hard") for part in PARTS)

    opening: tuple[Message, ...] = ()

    @classmethod
    def tasks(cls, split: str) -> list[Task]:
        """Two packages, or as the level after the underscore says; no layout of two or more is in two parts."""
        part, _, level = split.partition("_")
        first, count = PARTS[part]
        info = LEVELS[level or "normal"]
        return [
            Task(id=f"{split}/{layout}", messages=cls.opening, info={**info, "layout": layout})
            for layout in range(first, first + count)
        ]

    def reset(self, task: Task, seed: int) -> str:
        """A table as the task's layout says; the seed pushes each package a few millimetres and degrees off."""
        info: dict[str, Any] = {**LEVELS["normal"], "turns": None, "per_turn": False, "layout": seed, **task.info}
        hand, starts, self._goals = layout(info["packages"], info["span"], info["layout"])
        self._table = Table(hand, starts, seed)
        self._turns_left = info["turns"] or TURNS_PER_PACKAGE * info["packages"]
        self._per_turn = info["per_turn"]
        self._share = 0.0
        self._facts = {"carried": 0.0, "drops": 0.0, "turns": 0.0, "unclear": 0.0}
        return str(self._state())

    def step(self, text: str) -> tuple[str, dict[str, float], bool, bool, dict[str, Any]]:
        """Does what the reply says, in physics; a reply that is no action costs a turn."""
        action, held = Action.read(text), self._table.held
        if action is not None:
            self._act(action)
        dropped = held is not None and self._table.held is None and (self._table.up or action != Action("open"))
        before, state = self._share, self._state()
        self._share = sum(package is None for package in state.packages) / len(state.packages)
        self._turns_left -= 1
        self._facts["carried"] = self._share
        for fact, happened in ("turns", True), ("drops", dropped), ("unclear", action is None):
            self._facts[fact] += happened
        over = self._share == 1 or self._turns_left <= 0
        earned = self._share - before if self._per_turn else float(self._share == 1)
        return f"{'' if action else 'unclear; '}{state}", {"reward": earned, **self._facts}, over, False, {}

    def _act(self, action: Action) -> None:
        if action.name == "move":
            self._table.move(*action.cells)
        elif action.name in ("up", "down"):
            self._table.lift(up=action.name == "up")
        else:
            self._table.grip(shut=action.name == "close")

    def _state(self) -> State:
        table = self._table
        fingers = "open" if table.open else "shut" if table.held is None else "grip"
        return State(table.up, fingers, tuple(self._package(number, goal) for number, goal in enumerate(self._goals)))

    def _package(self, number: int, goal: tuple[int, int]) -> Package | None:
        """How the hand sees a package; None when it is home."""
        if self._table.rests_at(number, goal):
            return None
        (right, away), at = self._table.hand, self._table.cell(number)
        seen = None if self._table.held == number else (at[0] - right, at[1] - away)
        return Package(seen, (goal[0] - right, goal[1] - away))


class Explained(PickAndPlace):
    """The same with its rules in words before each task, for a model that can read."""

    opening = (Message.of("system", RULES),)


def layout(packages: int, span: int, seed: int) -> tuple[tuple[int, int], list[tuple[int, int]], list[tuple[int, int]]]:
    """Cells of the hand, the packages and their goals; no two of the latter share one."""
    random = np.random.default_rng([seed, packages, span])

    def cell() -> tuple[int, int]:
        return int(random.integers(CELLS)), int(random.integers(CELLS))

    pairs: list[tuple[tuple[int, int], tuple[int, int]]] = []
    while len(pairs) < packages:
        start, goal = cell(), cell()
        taken = {used for pair in pairs for used in pair}
        if (
            start != goal
            and max(abs(start[0] - goal[0]), abs(start[1] - goal[1])) <= span
            and not taken & {start, goal}
        ):
            pairs.append((start, goal))
    return cell(), [start for start, _ in pairs], [goal for _, goal in pairs]
