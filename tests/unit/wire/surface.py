"""What a peer of another age depends on, one fact a line: removing or changing a line breaks them, adding does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto


def surface(files: Iterable[FileDescriptorProto]) -> list[str]:
    """Every message, field, reserved number, service and method, sorted by name."""
    return sorted(line for file in files for line in _file(file))


def broken(golden: Iterable[str], now: Iterable[str]) -> list[str]:
    """Facts that peers depend on and that are no longer so."""
    return sorted(set(golden) - set(now))


def _file(file: FileDescriptorProto) -> Iterator[str]:
    for message in file.message_type:
        yield from _message(f"{file.package}.{message.name}", message)
    for service in file.service:
        for method in service.method:
            takes = _stream(method.client_streaming) + method.input_type.removeprefix(".")
            gives = _stream(method.server_streaming) + method.output_type.removeprefix(".")
            yield f"rpc {file.package}.{service.name}/{method.name} ({takes}) returns ({gives})"


def _message(name: str, message: DescriptorProto) -> Iterator[str]:
    yield f"message {name}"
    for field in message.field:
        kind = _label(field, message) + _type(field)
        yield f"field {name} {field.number:2} {field.name}: {kind}, in JSON {field.json_name}"
    for kept in message.reserved_range:
        for number in range(kept.start, kept.end):
            yield f"reserved {name} {number:2}"
    for nested in message.nested_type:
        yield from _message(f"{name}.{nested.name}", nested)


def _label(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "repeated "
    if field.proto3_optional:
        return "optional "
    return f"one of {message.oneof_decl[field.oneof_index].name}, " if field.HasField("oneof_index") else ""


def _type(field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return field.type_name.removeprefix(".") or kind


def _stream(streaming: bool) -> str:
    return "stream " if streaming else ""
