"""Writes docs/reference/wire.md from the protos and the comments in them: `make protos` runs it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "docs" / "reference" / "wire.md"
ORDER = ("environment", "reward", "types")
INTRODUCTION = """# Wire

What travels between rlforge and environments or rewards that run elsewhere, over gRPC as it stands here and over HTTP
as JSON. Generated from [protos/rlforge/v1](../../protos/rlforge/v1) by `make protos`; copy that folder to write a
simulator or a reward endpoint in another language, or read the same from a running server by reflection.
"""
Path_ = tuple[int, ...]
"""Where in a file a comment stands: field numbers of FileDescriptorProto and places in its lists."""


def compiled() -> list[FileDescriptorProto]:
    """Our proto files as the compiler that is installed reads them, comments included."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "protos.binpb"
        arguments = [f"-I{FOLDER}", f"-I{files('grpc_tools') / '_proto'}", "--include_source_info"]
        protos = sorted(str(path) for path in FOLDER.glob("rlforge/v1/*.proto"))
        if protoc.main(["protoc", *arguments, f"--descriptor_set_out={target}", *protos]):
            raise SystemExit("protoc refused the protos; what it said stands above")
        read = FileDescriptorSet.FromString(target.read_bytes()).file
    return sorted(read, key=lambda file: ORDER.index(Path(file.name).stem))


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, *(part for file in compiled() for part in _file(file))]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
    yield f"## {Path(file.name).name}"
    yield _prose(comments[12,])
    for number, service in enumerate(file.service):
        yield f"### service {service.name}"
        yield _prose(comments[6, number])
        for place, method in enumerate(service.method):
            gives, takes = _stream(method.server_streaming), _stream(method.client_streaming)
            yield f"#### {service.name}.{method.name}"
            yield f"`({takes}{_short(method.input_type)}) → ({gives}{_short(method.output_type)})`"
            yield _prose(comments[6, number, 2, place])
    for number, message in enumerate(file.message_type):
        yield f"### {message.name}"
        yield _prose(comments[4, number])
        yield _fields(message, (4, number), comments)


def _fields(message: Any, path: Path_, comments: dict[Path_, str]) -> str:
    if not message.field:
        return "No fields."
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    rows = ["| # | field | type | meaning |", "|---|---|---|---|"]
    for place, field in enumerate(message.field):
        said = " ".join(comments.get((*path, 2, place), "").split()).replace("|", "\\|")
        rows.append(f"| {field.number} | `{field.name}` | {_type(field, maps, message)} | {said} |")
    for place, oneof in enumerate(message.oneof_decl):
        if (*path, 8, place) in comments:
            rows.append(f"\n`{oneof.name}`: {' '.join(comments[*path, 8, place].split())}")
    rows += [f"\nReserved: {each.start} to {each.end - 1}." for each in message.reserved_range]
    return "\n".join(rows)


def _type(field: FieldDescriptorProto, maps: dict[str, Any], message: Any) -> str:
    entry = maps.get(_short(field.type_name))
    if entry is not None:
        return f"map of {_plain(entry.field[0])} to {_plain(entry.field[1])}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {_plain(field)}"
    if field.HasField("oneof_index") and not field.proto3_optional:
        return f"{_plain(field)}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return f"{_plain(field)}, optional" if field.proto3_optional else _plain(field)


def _plain(field: FieldDescriptorProto) -> str:
    if not field.type_name:
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    name = _short(field.type_name)
    return f"[{name}](#{name.lower()})" if field.type_name.startswith(".rlforge.") else f"JSON ({name})"


def _prose(comment: str) -> str:
    """Comment lines as Markdown: a list stays one, what is indented otherwise stands as it is."""
    out: list[str] = []
    fenced = listed = False
    for line in (line.removeprefix(" ") for line in comment.rstrip("\n").split("\n")):
        listed = listed or line.startswith("  * ")
        if (line.startswith("  ") and not listed) != fenced:
            out.append("```" if fenced else "```text")
            fenced = not fenced
        out.append(line.removeprefix("  "))
    return "\n".join([*out, "```"] if fenced else out)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _stream(streaming: bool) -> str:
    return "stream " if streaming else ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE.relative_to(FOLDER.parent)}", file=sys.stderr)
