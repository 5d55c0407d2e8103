"""Policies that read the text alone: one that knows how, and two that do not."""

import random
from collections.abc import Callable

from pick_and_place.language import Offset, State
from pick_and_place.physics import CELLS

Policy = Callable[[str], str]


def expert(text: str) -> str:
    """The next action on the way: fetch the first package that is not home, carry it, put it down."""
    state = State.read(text)
    waiting = [package for package in state.packages if package is not None]
    held = next((package for package in waiting if package.at is None), None)
    if held is not None:
        return _at(state, held.goal, "open")
    if state.fingers != "open" or not waiting:
        return "open"
    return _at(state, waiting[0].at or (0, 0), "close")


def at_random(seed: int) -> Policy:
    """Any action, all kinds alike."""
    choice = random.Random(seed)
    cells = range(1 - CELLS, CELLS)

    def policy(_: str) -> str:
        move = f"move {choice.choice(cells)} {choice.choice(cells)}"
        return choice.choice([move, "down", "up", "close", "open"])

    return policy


def always(action: str) -> Policy:
    """The same action whatever is seen."""
    return lambda _: action


def _at(state: State, place: Offset, then: str) -> str:
    """Go above the place, down, and do what is to be done there."""
    if place == (0, 0):
        return "down" if state.up else then
    return f"move {place[0]} {place[1]}" if state.up else "up"
