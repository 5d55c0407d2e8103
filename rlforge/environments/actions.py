"""A model's reply as an action of a Gymnasium space: a plain number, or JSON."""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias, cast

import numpy as np
from gymnasium import spaces

from rlforge.errors import ConfigError

Space: TypeAlias = spaces.Space[Any]

_SHOWN_BOUNDS = 16
"""Numbers of bounds that are written out; beyond them the model is told the range of all."""


class MalformedAction(Exception):
    """What the model wrote is no action. The message is for the model to read; the world has not moved."""


def action_of(text: str, space: Space) -> Any:
    """The action a reply names: JSON, or an object with the one key `action`. Raises MalformedAction.

    Discrete takes a whole number; Box, MultiDiscrete and MultiBinary take a list (a Box of one number that number
    alone); Text takes the reply itself.
    """
    if isinstance(space, spaces.Text):
        action: Any = text.strip()
    else:
        action = _array(_json(text), space)
    if not space.contains(action):
        raise MalformedAction(f"'{_shown(text)}' is out of range. {how_to_act(space)}")
    return int(action) if isinstance(space, spaces.Discrete) else action


def how_to_act(space: Space) -> str:
    """One sentence for the model. Raises ConfigError for a space that no reply can name."""
    match space:
        case spaces.Discrete():
            return f"Reply with a whole number from {int(space.start)} to {int(space.start + space.n - 1)}."
        case spaces.Box() if math.prod(space.shape) == 1:
            return f"Reply with a number {_bounds(space)}."
        case spaces.Box():
            return f"Reply with a JSON list of {_shape(space)} numbers {_bounds(space)}."
        case spaces.MultiDiscrete():
            return f"Reply with a JSON list of whole numbers, each below its entry in {_numbers(space.nvec)}."
        case spaces.MultiBinary():
            return f"Reply with a JSON list of {_shape(space)} numbers, each 0 or 1."
        case spaces.Text():
            return f"Reply with {space.min_length} to {space.max_length} characters."
        case _:
            raise ConfigError(
                f"no reply of a model can name an action of {type(space).__name__}; wrap the environment so that its "
                "action space is Discrete, Box, MultiDiscrete, MultiBinary or Text"
            )


def _json(text: str) -> Any:
    try:
        said = json.loads(text.strip())
    except (ValueError, RecursionError) as error:
        raise MalformedAction(f"'{_shown(text)}' is neither a number nor JSON.") from error
    if isinstance(said, dict) and len(cast(dict[str, Any], said)) == 1:
        return cast(dict[str, Any], said).get("action", said)
    return cast(Any, said)


def _array(said: Any, space: Space) -> Any:
    """The numbers as the space wants them. Raises MalformedAction for another shape or what is no number."""
    try:
        given = np.asarray(said)
    except ValueError as error:
        raise MalformedAction(f"the list is ragged. {how_to_act(space)}") from error
    shape = cast(tuple[int, ...], space.shape)
    if given.dtype.kind not in "if" or (given.shape != shape and (given.size != 1 or math.prod(shape) != 1)):
        raise MalformedAction(f"'{_shown(json.dumps(said))}' does not have the right form. {how_to_act(space)}")
    if given.dtype.kind == "f" and np.issubdtype(cast(Any, space.dtype), np.integer):
        raise MalformedAction(f"'{_shown(json.dumps(said))}' is not whole. {how_to_act(space)}")
    return _cast(given.reshape(shape), space)


def _cast(given: Any, space: Space) -> Any:
    limits = np.iinfo(cast(Any, space.dtype)) if np.issubdtype(cast(Any, space.dtype), np.integer) else None
    if limits is not None and (given.min() < limits.min or given.max() > limits.max):
        raise MalformedAction(f"that is out of range. {how_to_act(space)}")
    with np.errstate(over="ignore"):
        array = given.astype(space.dtype)
    return array[()] if isinstance(space, spaces.Discrete) else array


def _bounds(space: spaces.Box) -> str:
    low, high = float(space.low.min()), float(space.high.max())
    same = bool((space.low == low).all() and (space.high == high).all())
    if same or space.low.size > _SHOWN_BOUNDS:
        return f"from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else "of any size"
    return f"from {_numbers(space.low)} to {_numbers(space.high)}"


def _shape(space: Space) -> str:
    return " x ".join(str(length) for length in cast(tuple[int, ...], space.shape))


def _numbers(array: Any) -> str:
    return json.dumps([float(f"{number:g}") if number % 1 else int(number) for number in np.ravel(array)])


def _shown(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else text[:60] + "…"
