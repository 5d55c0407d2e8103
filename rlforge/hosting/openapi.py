"""The OpenAPI document of an HTTP server, built from the messages it takes and gives."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from rlforge import __version__
from rlforge.transports.signing import SIGNATURE, TIMESTAMP
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2

_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {"description": "Any JSON value."},
}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte", "description": "base64"},
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["kind", "message", "retryable"],
            "properties": {
                "kind": {"type": "string"},
                "message": {"type": "string", "description": "For a person to read."},
                "retryable": {"type": "boolean", "description": "Whether asking again may help."},
            },
        }
    },
}


def openapi(kind: str, name: str, *, token: bool = False, signature: bool = False) -> dict[str, Any]:
    """The document of a server of an `environment` or a `reward`, as plain data for `json.dumps`.

    `token`, `signature`: what a request needs to be let in.
    """
    paths = _environment_paths() if kind == "environment" else _reward_paths()
    schemas: dict[str, Any] = {"Error": ERROR}
    for file in (types_pb2, environment_pb2, reward_pb2):
        for message in file.DESCRIPTOR.message_types_by_name.values():
            schemas[message.name] = _schema(message)
    components: dict[str, Any] = {"schemas": schemas}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"{name}, an rlforge {kind}", "version": __version__},
        "paths": paths | _health_path(),
        "components": components,
    }
    schemes = _security_schemes(token, signature)
    if schemes:
        components["securitySchemes"] = schemes
        document["security"] = [{scheme: [] for scheme in schemes}]  # all of them at once
    return document


def _security_schemes(token: bool, signature: bool) -> dict[str, Any]:
    bearer: dict[str, Any] = {"token": {"type": "http", "scheme": "bearer"}} if token else {}
    headers = {"timestamp": TIMESTAMP, "signature": SIGNATURE} if signature else {}
    return bearer | {name: {"type": "apiKey", "in": "header", "name": header} for name, header in headers.items()}


def _environment_paths() -> dict[str, Any]:
    world = {"name": "world", "in": "path", "required": True, "schema": {"type": "string"}}
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
    location = {"Location": {"schema": {"type": "string"}, "description": "Path of the world."}}
    opened = _operation("Open a world with step 0", "Action", "Observation", "201", parameters=[key])
    opened["responses"]["201"]["headers"] = location
    tasks = {"type": "object", "properties": {"tasks": {"type": "array", "items": _ref("Task")}}}
    return {
        "/v1/environment": {"get": _operation("What kind of world this is", None, "EnvironmentSpec")},
        "/v1/tasks": {"get": _operation("Tasks of a split", None, tasks, parameters=_page_parameters())},
        "/v1/worlds": {"post": opened},
        "/v1/worlds/{world}": {"delete": _operation("Free a world", None, None, "204", parameters=[world])},
        "/v1/worlds/{world}/steps": {
            "post": _operation("The next step, or the last one again", "Action", "Observation", parameters=[world])
        },
    }


def _reward_paths() -> dict[str, Any]:
    timeout = {"name": "x-rlforge-timeout-s", "in": "header", "schema": {"type": "number"}}
    return {
        "/v1/reward": {"get": _operation("What this scorer is", None, "ScorerSpec")},
        "/v1/score": {"post": _operation("Judge a batch", "ScoreRequest", "ScoreResponse", parameters=[timeout])},
    }


def _health_path() -> dict[str, Any]:
    status = {"type": "object", "properties": {"status": {"type": "string"}}}
    return {"/healthz": {"get": _operation("Whether it takes requests", None, status) | {"security": []}}}


def _page_parameters() -> list[dict[str, Any]]:
    number = {"type": "integer", "minimum": 0}
    return [
        {"name": "split", "in": "query", "schema": {"type": "string"}},
        {"name": "offset", "in": "query", "schema": number},
        {"name": "limit", "in": "query", "schema": number},
    ]


def _operation(
    summary: str,
    takes: str | None,
    gives: str | dict[str, Any] | None,
    status: str = "200",
    *,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done."}
    if gives is not None:
        good["content"] = _json(_ref(gives) if isinstance(gives, str) else gives)
    fault = {"description": "What went wrong.", "content": _json(_ref("Error"))}
    operation: dict[str, Any] = {"summary": summary, "responses": {status: good, "default": fault}}
    if takes is not None:
        operation["requestBody"] = {"required": True, "content": _json(_ref(takes))}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(message: Descriptor) -> dict[str, Any]:
    properties = {field.name: _field(field) for field in message.fields}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    either = [
        f"at most one of {', '.join(field.name for field in oneof.fields)}"
        for oneof in message.oneofs
        if len(oneof.fields) > 1
    ]
    return schema | ({"description": "; ".join(either)} if either else {})


def _field(field: FieldDescriptor) -> dict[str, Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _one(kind.fields_by_name["value"])}
    return {"type": "array", "items": _one(field)} if _is_list(field) else _one(field)


def _is_list(field: FieldDescriptor) -> bool:
    # older protobuf says it by a label, newer by a flag
    described: Any = field
    flag = getattr(described, "is_repeated", None)
    return bool(flag) if flag is not None else described.label == described.LABEL_REPEATED


def _one(field: FieldDescriptor) -> dict[str, Any]:
    kind = field.message_type
    if kind is None:
        return _SCALARS[field.type]
    return _WELL_KNOWN.get(kind.full_name) or _ref(kind.name)
