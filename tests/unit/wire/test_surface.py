"""Peers of another age keep working: the protocol grows, it never changes."""

from __future__ import annotations

import importlib
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from protos.reference import PAGE, compiled, page
from tests.unit.wire.surface import broken, surface
from tests.unit.wire.write_golden import SURFACE

ROOT = Path(__file__).resolve().parents[3]
PB = ROOT / "rlforge" / "wire" / "pb"
OTHER_PROTOBUFS = ["protobuf==5.29.6 grpcio==1.62.3", "protobuf grpcio"]
"""The oldest that vLLM admits, and the newest."""


def golden() -> list[str]:
    return SURFACE.read_text("utf-8").splitlines()


def file(files: list[FileDescriptorProto], name: str) -> FileDescriptorProto:
    return next(file for file in files if file.name == f"rlforge/v1/{name}.proto")


def message(files: list[FileDescriptorProto], name: str) -> Any:
    return next(message for file in files for message in file.message_type if message.name == name)


def field(files: list[FileDescriptorProto], path: str) -> FieldDescriptorProto:
    inside, _, name = path.partition(".")
    return next(field for field in message(files, inside).field if field.name == name)


def method(files: list[FileDescriptorProto], name: str) -> Any:
    return next(m for file in files for service in file.service for m in service.method if m.name == name)


def setting(find: Callable[[list[FileDescriptorProto]], Any], **changes: Any) -> Callable[[Any], None]:
    def doctor(files: list[FileDescriptorProto]) -> None:
        found = find(files)
        for name, value in changes.items():
            setattr(found, name, value)

    return doctor


BREAKING: dict[str, Callable[[list[FileDescriptorProto]], Any]] = {
    "field removed": lambda files: message(files, "Task").field.pop(),
    "field renumbered": setting(lambda files: field(files, "Task.source"), number=50),
    "field renamed": setting(lambda files: field(files, "Task.source"), name="origin", json_name="origin"),
    "type changed": setting(lambda files: field(files, "WorldStart.seed"), type=FieldDescriptorProto.TYPE_UINT64),
    "message type changed": setting(lambda files: field(files, "Action.message"), type_name=".rlforge.v1.Turn"),
    "label changed": setting(lambda files: field(files, "Split.name"), label=FieldDescriptorProto.LABEL_REPEATED),
    "presence dropped": setting(lambda files: field(files, "Scored.value"), proto3_optional=False),
    "moved out of a oneof": lambda files: field(files, "Score.scored").ClearField("oneof_index"),
    "JSON name changed": setting(lambda files: field(files, "Task.source"), json_name="origin"),
    "message removed": lambda files: file(files, "types").message_type.pop(0),
    "message renamed": setting(lambda files: message(files, "Observation"), name="Sight"),
    "reserved numbers given away": lambda files: message(files, "EnvironmentSpec").ClearField("reserved_range"),
    "service removed": lambda files: file(files, "reward").ClearField("service"),
    "method renamed": setting(lambda files: method(files, "Interact"), name="Play"),
    "method takes another message": setting(
        lambda files: method(files, "ListTasks"), input_type=".rlforge.v1.DescribeRequest"
    ),
    "client streams no more": setting(lambda files: method(files, "Interact"), client_streaming=False),
    "server streams now": setting(lambda files: method(files, "Score"), server_streaming=True),
    "package renamed": lambda files: [setattr(file, "package", "rlforge.v2") for file in files],
}


def add_field(files: list[FileDescriptorProto]) -> None:
    message(files, "Task").field.add(name="hint", json_name="hint", number=50, type=FieldDescriptorProto.TYPE_STRING)


ADDING: dict[str, Callable[[list[FileDescriptorProto]], Any]] = {
    "field": add_field,
    "message": lambda files: file(files, "types").message_type.add(name="Video"),
    "service": lambda files: file(files, "types").service.add(name="Orchestrator"),
    "method": lambda files: file(files, "environment").service[0].method.add(name="Snapshot"),
    "comment": lambda files: file(files, "types").source_code_info.location.add(leading_comments=" More."),
}


def test_nothing_that_peers_depend_on_has_changed() -> None:
    assert broken(golden(), surface(compiled())) == []


def test_golden_surface_is_whole() -> None:
    """Additions are promised from the commit that makes them: write the golden files anew (see write_golden.py)."""
    assert golden() == surface(compiled())


@pytest.mark.parametrize("change", BREAKING)
def test_a_breaking_change_is_caught(change: str) -> None:
    files = compiled()
    BREAKING[change](files)
    assert broken(golden(), surface(files))


@pytest.mark.parametrize("change", ADDING)
def test_an_addition_is_no_breaking_change(change: str) -> None:
    files = compiled()
    ADDING[change](files)
    assert broken(golden(), surface(files)) == []


@pytest.mark.parametrize("name", ["types", "environment", "reward"])
def test_committed_code_says_what_the_protos_say(name: str) -> None:
    module = importlib.import_module(f"rlforge.wire.pb.{name}_pb2")
    generated = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    written = FileDescriptorProto()
    written.CopyFrom(file(compiled(), name))
    for said in (generated, written):  # the older compiler leaves these out
        said.ClearField("source_code_info")
        _forget_json_names(said.message_type)
    assert generated == written


def _forget_json_names(messages: Any) -> None:
    for each in messages:
        for field in each.field:
            field.ClearField("json_name")
        _forget_json_names(each.nested_type)


def test_committed_stubs_have_every_method() -> None:
    for written in compiled():
        stubs = (PB / f"{Path(written.name).stem}_pb2_grpc.py").read_text("utf-8")
        for service in written.service:
            for method in service.method:
                assert f"'/{written.package}.{service.name}/{method.name}'" in stubs


def test_committed_code_asks_for_no_runtime_of_its_own_age() -> None:
    for path in PB.glob("*.py"):
        text = path.read_text("utf-8")
        assert "ValidateProtobufRuntimeVersion" not in text, path
        assert "GRPC_GENERATED_VERSION" not in text, path


def test_reference_page_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make protos`"


def test_every_message_field_and_method_has_a_comment() -> None:
    bare = []
    for written in compiled():
        said = {tuple(at.path) for at in written.source_code_info.location if at.leading_comments}
        for number, message in enumerate(written.message_type):
            paths = {(4, number): message.name}
            paths |= {(4, number, 2, place): f"{message.name}.{f.name}" for place, f in enumerate(message.field)}
            bare += [name for path, name in paths.items() if path not in said]
        for number, service in enumerate(written.service):
            paths = {(6, number): service.name}
            paths |= {(6, number, 2, place): f"{service.name}.{m.name}" for place, m in enumerate(service.method)}
            bare += [name for path, name in paths.items() if path not in said]
    obvious = {"ContentPart.text", "ContentPart.image", "ContentPart.tensor"}
    assert set(bare) == obvious


@pytest.mark.slow
@pytest.mark.parametrize("packages", OTHER_PROTOBUFS)
def test_committed_code_runs_on_the_oldest_and_the_newest_protobuf(packages: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages.split()], check=True, timeout=240)
    script = """
import sys, types
from pathlib import Path
root = Path(sys.argv[1])
for name in ("rlforge", "rlforge.wire"):  # the generated code alone: the rest of rlforge needs more than protobuf
    package = types.ModuleType(name)
    package.__path__ = [str(root / name.replace(".", "/"))]
    sys.modules[name] = package
import grpc, google.protobuf
from rlforge.wire.pb import environment_pb2, environment_pb2_grpc, reward_pb2, reward_pb2_grpc, types_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
task = types_pb2.Task(id="a", messages=[types_pb2.Message(role="user", content=[types_pb2.ContentPart(text="b")])])
task.info.fields["c"].number_value = 0.5
action = environment_pb2.Action(step=0, start=environment_pb2.WorldStart(task=task, seed=7))
read = environment_pb2.Action.FromString(action.SerializeToString())
assert read == action and not types_pb2.Scored().HasField("value")
form = MessageToDict(action, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
assert ParseDict(form, environment_pb2.Action()) == action
with grpc.insecure_channel("localhost:1") as channel:
    environment_pb2_grpc.EnvironmentStub(channel).Interact
    reward_pb2_grpc.RewardStub(channel).Score
print(google.protobuf.__version__, grpc.__version__)
"""
    said = subprocess.run(
        [python, "-I", "-W", "error", "-c", script, str(ROOT)], capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert sys.version_info >= (3, 11)
    assert said.stdout.startswith("5.29.6 1.62.3") == packages.startswith("protobuf==5.29.6")
