"""One method of the user's as a tool: its signature becomes a JSON Schema, and judges what the model gives it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from rlforge.errors import ConfigError
from rlforge.types import ToolSpec

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=False)


class MalformedCall(Exception):
    """The model's call cannot be carried out. The message is for the model to read; the world has not moved."""


class Tool:
    """A public method with a docstring. Raises ConfigError for a signature that no JSON object can fill."""

    def __init__(self, name: str, method: Callable[..., Any], owner: str) -> None:
        self.name = name
        self._names: dict[str, str] = {}
        self._model = self._arguments(method, f"environment '{owner}', tool '{name}'")
        self.spec = ToolSpec(name=name, description=inspect.getdoc(method) or "", parameters=_schema(self._model))

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments a model wrote, as the method wants them. Raises MalformedCall."""
        try:
            given = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise MalformedCall(f"the arguments of {self.name} are not JSON: {error}") from error
        if not isinstance(given, dict):
            raise MalformedCall(f"the arguments of {self.name} must be a JSON object")
        try:
            checked = self._model.model_validate(given)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise MalformedCall(f"the arguments of {self.name} are wrong: {wrong}") from error
        return {self._names[field]: getattr(checked, field) for field in checked.model_fields_set}

    def _arguments(self, method: Callable[..., Any], where: str) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        hints = _hints(method, where)
        for index, parameter in enumerate(list(inspect.signature(method).parameters.values())[1:]):
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ConfigError(f"{where}: '{parameter}' has no name in a JSON object; name every argument")
            field = f"argument_{index}"  # the user's own names may be taken by pydantic
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[field] = (hints.get(parameter.name, Any), Field(default, alias=parameter.name))
            self._names[field] = parameter.name
        try:
            return create_model(self.name, __config__=_STRICT, **fields)
        except PydanticUserError as error:
            raise ConfigError(f"{where}: {error}; use types that JSON can hold") from error


def _hints(method: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return get_type_hints(method, include_extras=True)
    except NameError as error:
        raise ConfigError(f"{where}: a type hint cannot be read: {error}") from error


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"type": "object", "properties": {}, **_untitled(model.model_json_schema())}


def _untitled(schema: Any, names: bool = False) -> Any:
    """A schema without the titles that only repeat the names; `names` where the keys are names of arguments."""
    if isinstance(schema, list):
        return [_untitled(item) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast(dict[str, Any], schema)
    kept = {key: item for key, item in given.items() if names or key != "title"}
    return {key: _untitled(item, names=not names and key in ("properties", "$defs")) for key, item in kept.items()}
