"""What the user's code returned, as an `Observation`: text, messages, JSON values, arrays, or one of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from rlforge.errors import EndpointBroken
from rlforge.types import ContentPart, ImagePart, JsonPart, Message, Observation, TensorPart, TextPart

_PARTS = (TextPart, ImagePart, JsonPart, TensorPart)
_SHOWN_ELEMENTS = 1024
"""Larger arrays travel as tensors: no model reads them as text."""
_REWARD = "a reward must be a finite number, a dict of them or None"
_STEP = "step() must return observation, reward, terminated, truncated, info, or an rlforge Observation"

Role: TypeAlias = Literal["user", "tool"]


def first_observation(given: object, whose: object) -> Observation:
    """What `reset` of an object returned: what the model sees, alone or with a dict of info."""
    if isinstance(given, Observation):
        return _checked(given, f"{type(whose).__name__}.reset()")
    if isinstance(given, tuple):
        pair = cast(tuple[Any, ...], given)
        if len(pair) == 2 and isinstance(pair[1], Mapping):
            return Observation(messages=messages_of(pair[0]), info=info_of(cast(object, pair[1])))
    return Observation(messages=messages_of(given))


def step_observation(given: object, whose: object) -> Observation:
    """What `step` of an object returned, in Gymnasium's five parts or as one of ours.

    Raises EndpointBroken for anything else.
    """
    if isinstance(given, Observation):
        return _checked(given, f"{type(whose).__name__}.step()")
    if not isinstance(given, tuple):
        raise EndpointBroken(f"{_STEP}; it returned {_shown(given)}")
    parts = cast(tuple[Any, ...], given)
    if len(parts) != 5:
        raise EndpointBroken(f"{_STEP}; it returned a tuple of {len(parts)}")
    seen, reward, terminated, truncated, info = parts
    value, components = reward_of(reward)
    return Observation(
        messages=messages_of(seen),
        reward=value,
        components=components,
        terminated=bool(terminated),
        truncated=bool(truncated),
        info=info_of(info),
    )


def messages_of(given: object, role: Role = "user") -> tuple[Message, ...]:
    """What the model sees: nothing for None, messages as they are, anything else as one message of `role`."""
    if given is None:
        return ()
    if isinstance(given, Message):
        return (given,)
    if isinstance(given, list | tuple):
        items = cast(Sequence[object], given)
        messages = tuple(item for item in items if isinstance(item, Message))
        if items and len(messages) == len(items):
            return messages
    return (Message(role=role, content=content_of(given)),)


def content_of(given: object) -> tuple[ContentPart, ...]:
    """The parts of a message: text as text, parts as they are, arrays and other values as JSON."""
    if isinstance(given, str):
        return (TextPart(text=given),)
    if isinstance(given, _PARTS):
        return (given,)
    if isinstance(given, list | tuple):
        items = cast(Sequence[object], given)
        parts = tuple(item for item in items if isinstance(item, _PARTS))
        if items and len(parts) == len(items):
            return parts
    if isinstance(given, np.ndarray) and cast(NDArray[Any], given).size > _SHOWN_ELEMENTS:
        return (_tensor(cast(NDArray[Any], given)),)
    return (JsonPart(value=plain(given)),)


def reward_of(given: object) -> tuple[float | None, dict[str, float]]:
    """A number is the reward; of a mapping it is the entry `reward`, else the sum, and the rest are components.

    Raises EndpointBroken for what is no finite number.
    """
    if given is None:
        return None, {}
    if not isinstance(given, Mapping):
        return _number(given), {}
    components = {str(name): _number(part) for name, part in cast(Mapping[object, object], given).items()}
    if not components:
        raise EndpointBroken("the reward is an empty dict; give a number, a dict of numbers or None")
    reward = components.pop("reward") if "reward" in components else math.fsum(components.values())
    return reward, components


def info_of(given: object) -> dict[str, Any]:
    """A dict of JSON values. Raises EndpointBroken when it is no dict."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise EndpointBroken(f"info must be a dict, not {_shown(given)}")
    return plain(cast(object, given))


def plain(given: Any) -> Any:
    """The value with numpy's taken apart; what JSON cannot hold becomes the text that Python prints for it."""
    match given:
        case None | bool() | str() | int():
            return given
        case float():
            return float(given) if math.isfinite(given) else repr(float(given))
        case Mapping():
            return {str(name): plain(item) for name, item in cast(Mapping[Any, Any], given).items()}
        case np.floating():
            return plain(float(str(given)))  # as many digits as it has: 0.1, not 0.10000000149011612
        case np.generic():
            return plain(cast(Any, given).item())
        case np.ndarray():
            return [plain(item) for item in cast(NDArray[Any], given)] if given.shape else plain(given[()])
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in cast(Sequence[Any], given)]
        case _:
            return repr(given)


def _checked(observation: Observation, by: str) -> Observation:
    """One of ours with Python's own numbers in it. Raises EndpointBroken that says what is none and who returned it."""
    try:
        reward = None if observation.reward is None else _number(observation.reward)
        components = cast(object, observation.components)
        if not isinstance(components, Mapping):
            raise EndpointBroken(f"components must be a dict of numbers, not {_shown(components)}")
        numbers = {
            str(name): _number(part, f"component '{name}' must be a finite number")
            for name, part in observation.components.items()
        }
        return replace(observation, info=info_of(observation.info), reward=reward, components=numbers)
    except EndpointBroken as error:
        raise EndpointBroken(f"{by} returned an Observation that cannot be used: {error}") from error


def _number(given: object, wanted: str = _REWARD) -> float:
    number = cast(Any, given).item() if getattr(given, "shape", None) == () else given
    if not isinstance(number, float | int | Real) or not math.isfinite(number):
        raise EndpointBroken(f"{wanted}, not {_shown(given)}")
    return float(number)


def _tensor(array: NDArray[Any]) -> TensorPart:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return TensorPart(dtype=array.dtype.name, shape=array.shape, data=little.tobytes())


def _shown(given: object) -> str:
    shown = repr(given)
    return f"{type(given).__name__} {shown if len(shown) <= 120 else shown[:120] + '…'}"
