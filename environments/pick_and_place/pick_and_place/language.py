"""What the model reads and writes: the state in a dozen words, an action in one to three."""

import re
from dataclasses import dataclass

NAMES = "ABCDEF"
_MOVE = re.compile(r"move (\d) (\d)")
_HAND = re.compile(r"hand (\d) (\d) (up|down) (open|shut|grip)")
_PACKAGE = re.compile(r"(\d) (\d) to (\d) (\d)")

RULES = """You steer a gripper above a table of 6 by 6 cells and carry packages to their goals, one after another.
You read where the hand is, whether it is up or down and open, shut or gripping, and for each package its cell and its
goal, or that it is home. Answer with one action and nothing else:
move X Y (towards cell X Y, by at most 3 cells along each axis), down, up, close, open."""
"""For a model that knows English; a model made from scratch learns them from traces."""


@dataclass(frozen=True)
class Package:
    """A package on the way: its cell, and the cell it has to go to."""

    cell: tuple[int, int]
    goal: tuple[int, int]


@dataclass(frozen=True)
class State:
    """What can be seen of the table. A package that is home is None.

    Example: `hand 2 3 up open; A 1 4 to 5 2; B home`.
    """

    hand: tuple[int, int]
    up: bool
    fingers: str
    """`open`, `shut`, or `grip` when a package is between them."""
    packages: tuple[Package | None, ...]

    def __str__(self) -> str:
        hand = f"hand {_cell(self.hand)} {'up' if self.up else 'down'} {self.fingers}"
        return "; ".join([hand, *(f"{name} {_place(each)}" for name, each in zip(NAMES, self.packages, strict=False))])

    @classmethod
    def read(cls, text: str) -> "State":
        """The state that a text tells, whatever stands before it. Raises ValueError when it tells none."""
        first, *rest = text[max(text.find("hand"), 0) :].split("; ")
        hand = _HAND.fullmatch(first)
        if hand is None:
            raise ValueError(f"no state of the table in {text[:80]!r}")
        x, y, height, fingers = hand.groups()
        return cls((int(x), int(y)), height == "up", fingers, tuple(_read_package(each[2:]) for each in rest))


@dataclass(frozen=True)
class Action:
    """One of `move`, `down`, `up`, `close`, `open`; only `move` has a cell to go to."""

    name: str
    cell: tuple[int, int] = (0, 0)

    @classmethod
    def read(cls, text: str) -> "Action | None":
        """The action in the last line of a reply; None when there is none."""
        line = (text.strip().splitlines() or [""])[-1].strip().lower()
        if move := _MOVE.fullmatch(line):
            return cls("move", (int(move[1]), int(move[2])))
        return cls(line) if line in ("down", "up", "close", "open") else None


def _cell(cell: tuple[int, int]) -> str:
    return f"{cell[0]} {cell[1]}"


def _place(package: Package | None) -> str:
    return "home" if package is None else f"{_cell(package.cell)} to {_cell(package.goal)}"


def _read_package(text: str) -> Package | None:
    if text == "home":
        return None
    place = _PACKAGE.fullmatch(text)
    if place is None:
        raise ValueError(f"no package in {text[:80]!r}")
    x, y, to_x, to_y = map(int, place.groups())
    return Package((x, y), (to_x, to_y))
