"""Policies that read the text alone: one that knows how, and two that do not."""

import random
from collections.abc import Callable

from pick_and_place.language import Package, State
from pick_and_place.physics import CELLS

Policy = Callable[[str], str]


def expert(text: str) -> str:
    """The next action on the way: fetch the first package that is not home, carry it, put it down."""
    state = State.read(text)
    waiting = [package for package in state.packages if package is not None]
    if state.fingers == "grip":
        return _carry(state, next((each for each in waiting if each.cell == state.hand), None))
    if state.fingers == "shut" or not waiting:
        return "open"
    return _at(state, waiting[0].cell, "close")


def at_random(seed: int) -> Policy:
    """Any action, all kinds alike."""
    choice = random.Random(seed)
    cells = range(CELLS)

    def policy(_: str) -> str:
        move = f"move {choice.choice(cells)} {choice.choice(cells)}"
        return choice.choice([move, "down", "up", "close", "open"])

    return policy


def always(action: str) -> Policy:
    """The same action whatever is seen."""
    return lambda _: action


def _carry(state: State, held: Package | None) -> str:
    return "open" if held is None else _at(state, held.goal, "open")


def _at(state: State, cell: tuple[int, int], then: str) -> str:
    """Go above the cell, down, and do what is to be done there."""
    if state.hand == cell:
        return "down" if state.up else then
    if not state.up:
        return "up"
    return f"move {cell[0]} {cell[1]}"
