"""Where worlds come from: a class, a factory, or an object that is copied."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from rlforge.errors import ConfigError, boundary
from rlforge.values import value


@value(eq=False)
class Origin:
    """Makes the user's objects, one for each world."""

    make: Callable[[], Any]
    """A new object that shares nothing with others."""
    example: Any
    """What to look at: the class itself, or an object that was made."""
    name: str
    copies: bool = False
    """Whether worlds are copies of one object that was given."""


def origin_of(thing: Any) -> Origin:
    """How to make worlds of a thing. Raises ConfigError when none can be made without more being said."""
    if inspect.isclass(thing):
        _takes_nothing(thing, f"the class {thing.__name__}")
        return Origin(make=thing, example=thing, name=thing.__name__)
    if inspect.isroutine(thing) or isinstance(thing, partial):
        name = getattr(thing, "__name__", "a partial")
        _takes_nothing(thing, f"the factory {name}")
        with boundary(f"the factory {name}"):
            example = thing()
        return Origin(make=thing, example=example, name=type(example).__name__ if name == "<lambda>" else name)
    return Origin(make=lambda: copy.deepcopy(thing), example=thing, name=type(thing).__name__, copies=True)


def _takes_nothing(thing: Callable[..., Any], what: str) -> None:
    try:
        inspect.signature(thing).bind()
    except TypeError as error:
        raise ConfigError(
            f"{what} makes worlds and must be callable without arguments: {error}; "
            "give `lambda: …` or functools.partial with the arguments in it"
        ) from error
    except ValueError:  # some built-in classes have no signature to check
        return
