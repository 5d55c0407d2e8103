"""Configuration: strict pydantic models that live beside the class they configure, and the errors they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from rlforge.errors import ConfigError
from rlforge.registry import Registry, suggest

FileName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name that becomes part of a file's: letters, digits, `_`, `.` and `-`, the first a letter or a digit."""


class BaseConfig(BaseModel):
    """Frozen, strict about unknown keys; the docstring under a field is its help everywhere it is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "") -> Self:
        """Validate plain data. Raises ConfigError that names every wrong key (prefixed by `where`) with a way out."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise ConfigError("\n".join(_explain(cls, item, where) for item in error.errors())) from error


class PartConfig(BaseConfig):
    """Configuration of a registered part; `type` names it."""

    type: str
    """Registered name, or `package.module:Class` for a part of your own."""


class Part:
    """Marks a field that holds the configuration of any part of a registry.

    Example: `algorithm: Annotated[PartConfig, Part(ALGORITHMS)]` accepts `grpo` or `{type: grpo, std: false}` and
    holds a `GRPO.Config`.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(_dump)
        return core_schema.no_info_plain_validator_function(self._validate, serialization=dump)

    def _validate(self, value: object) -> PartConfig:
        if isinstance(value, PartConfig):
            return value
        data = {"type": value} if isinstance(value, str) else value
        if not isinstance(data, Mapping):
            raise ValueError(f"a {self.registry.kind} is a name or a mapping with a 'type', not {value!r}")
        data = cast(Mapping[str, Any], data)
        if "type" not in data:
            raise ValueError(f"this {self.registry.kind} has no 'type'. Known: {', '.join(self.registry.names())}")
        try:
            return config_class(self.registry, str(data["type"])).parse(data)
        except ConfigError as error:
            raise ValueError(str(error)) from error


def config_class(registry: Registry, name: str) -> type[PartConfig]:
    """The `Config` of a registered part (the registry may also name a config class itself, as for stages)."""
    part = registry.load(name)
    return part if isinstance(part, type) and issubclass(part, PartConfig) else part.Config


def build(
    registry: Registry, config: PartConfig, *, offered: Mapping[str, Any] | None = None, **dependencies: Any
) -> Any:
    """Make the part that `config` describes: `Class(config, **dependencies)`.

    Of what is `offered` it is given what its class names in `wants`. Example: `wants = ("environments",)`.
    """
    part = registry.load(config.type)
    wanted = {name: (offered or {})[name] for name in getattr(part, "wants", ())}
    return part(config, **dependencies, **wanted)


def _dump(config: PartConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _explain(model: type[BaseModel], item: Any, where: str) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join([*([where] if where else []), *location])
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"unknown key '{path}'. {suggest(location[-1], known)}Known: {', '.join(sorted(known))}"
    if item["type"] == "missing":
        return f"'{path}' is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in ("value_error", "default_factory_not_called"):
        return f"{path}: {message}" if path else message
    if item["type"] in ("model_type", "dict_type", "list_type"):
        known = _fields_at(model, location) if item["type"] == "model_type" else []
        form = "a list" if item["type"] == "list_type" else "a mapping, {key: value}"
        keys = f". Known keys: {', '.join(sorted(known))}" if known else ""
        return f"{path}={item['input']!r}: input should be {form}{keys}"
    return f"{path}={item['input']!r}: {message[:1].lower()}{message[1:]}"


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the model that a location leads to; the nearest model above where the type is not one."""
    current: type[BaseModel] = model
    for name in location:
        field = current.model_fields.get(name)
        annotation = field.annotation if field else None
        current = _model_in(annotation) or current
    return list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner: Callable[..., Any] | tuple[Any, ...] = getattr(annotation, "__args__", ())
    for argument in inner if isinstance(inner, tuple) else ():
        found = _model_in(argument)
        if found:
            return found
    return None
