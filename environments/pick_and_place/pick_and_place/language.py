"""What the model reads and writes: the table as the hand sees it, in a dozen words, and an action in one to three."""

import re
from dataclasses import dataclass

NAMES = "ABCDEF"
_MOVE = re.compile(r"move (-?\d) (-?\d)")
_HAND = re.compile(r"(?:unclear; )?(up|down) (open|shut|grip)")
_PACKAGE = re.compile(r"(?:(-?\d) (-?\d)|held) to (-?\d) (-?\d)")

RULES = """You steer a gripper above a table and carry packages to their goals, one after another.
You read whether the hand is up or down and its fingers open, shut or gripping; then for each package where it is and
where it has to go, or that it is held or home. Places are in cells to the right of the hand and away from you:
-1 2 is one to the left and two away, 0 0 is right below the hand. Answer with one action and nothing else:
move X Y (by X cells to the right and Y away, of which it does at most 3 along each axis), down, up, close, open."""
"""For a model that knows English; a model made from scratch learns them from traces."""

Offset = tuple[int, int]
"""Cells to the right of the hand, and away from whoever stands in front."""


@dataclass(frozen=True)
class Package:
    """A package on the way: where it is, as the hand sees it, and where it has to go."""

    at: Offset | None
    """None while it is held."""
    goal: Offset


@dataclass(frozen=True)
class State:
    """What can be seen of the table. A package that is home is None.

    Example: `up open; A -2 1 to 3 0; B home`.
    """

    up: bool
    fingers: str
    """`open`, `shut`, or `grip` when a package is between them."""
    packages: tuple[Package | None, ...]

    def __str__(self) -> str:
        hand = f"{'up' if self.up else 'down'} {self.fingers}"
        return "; ".join([hand, *(f"{name} {_told(each)}" for name, each in zip(NAMES, self.packages, strict=False))])

    @classmethod
    def read(cls, text: str) -> "State":
        """The state that a text tells. Raises ValueError when it tells none."""
        hand = _HAND.match(text)
        if hand is None:
            raise ValueError(f"no state of the table in {text[:80]!r}")
        packages = text[hand.end() :].split("; ")[1:]
        return cls(hand[1] == "up", hand[2], tuple(_read_package(each[2:]) for each in packages))


@dataclass(frozen=True)
class Action:
    """One of `move`, `down`, `up`, `close`, `open`; only `move` has cells to go by."""

    name: str
    cells: Offset = (0, 0)

    @classmethod
    def read(cls, text: str) -> "Action | None":
        """The action in the last line of a reply; None when there is none."""
        line = (text.strip().splitlines() or [""])[-1].strip().lower()
        if move := _MOVE.fullmatch(line):
            return cls("move", (int(move[1]), int(move[2])))
        return cls(line) if line in ("down", "up", "close", "open") else None


def _told(package: Package | None) -> str:
    if package is None:
        return "home"
    return f"{'held' if package.at is None else _numbers(package.at)} to {_numbers(package.goal)}"


def _numbers(offset: Offset) -> str:
    return f"{offset[0]} {offset[1]}"


def _read_package(text: str) -> Package | None:
    if text == "home":
        return None
    told = _PACKAGE.fullmatch(text)
    if told is None:
        raise ValueError(f"no package in {text[:80]!r}")
    at = None if told[1] is None else (int(told[1]), int(told[2]))
    return Package(at, (int(told[3]), int(told[4])))
