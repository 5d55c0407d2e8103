"""Every message has a JSON form that stays what it is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from protos.reference import compiled
from rlforge.errors import DataError
from rlforge.wire.json import from_json, to_json
from rlforge.wire.pb import environment_pb2, reward_pb2, types_pb2
from tests.unit.wire.examples import EXAMPLES
from tests.unit.wire.write_golden import GOLDEN


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


def in_camel_case(data: Any, kind: Any) -> Any:
    """The same with the other spelling of field names; what users put into maps and structs stays."""
    if kind is None or kind.full_name.startswith("google.protobuf.") or not isinstance(data, dict):
        return data
    out: dict[str, Any] = {}
    for name, value in data.items():
        inner = kind.fields_by_name[name].message_type
        inner = None if inner is None or inner.GetOptions().map_entry else inner
        several = isinstance(value, list)
        spelt = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
        out[spelt] = [in_camel_case(item, inner) for item in value] if several else in_camel_case(value, inner)
    return out


def test_every_message_has_a_golden_file() -> None:
    messages = {message.name for file in compiled() for message in file.message_type}
    assert messages == set(EXAMPLES) == {path.stem for path in GOLDEN.glob("*.json")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_json_form_of_a_message_is_the_golden_one(name: str) -> None:
    assert to_json(EXAMPLES[name]) == golden(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_json_is_read_back_as_the_message(name: str) -> None:
    assert from_json(golden(name), type(EXAMPLES[name])) == EXAMPLES[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_camel_case_is_read_as_well(name: str) -> None:
    written = in_camel_case(golden(name), EXAMPLES[name].DESCRIPTOR)
    assert from_json(written, type(EXAMPLES[name])) == EXAMPLES[name]


def test_examples_set_every_field() -> None:
    empty = {
        f"{name}.{field.name}"
        for name, message in EXAMPLES.items()
        for field in message.DESCRIPTOR.fields
        if field.containing_oneof is None and field not in [found for found, _ in message.ListFields()]
    }
    assert empty == {"Message.tool_calls", "Message.tool_call_id", "Rollout.parent", "Turn.reward"} & empty


def test_empty_fields_are_written_so_that_a_reader_finds_them() -> None:
    written = to_json(types_pb2.Rollout())
    assert written["turns"] == []
    assert written["member"] == 0
    assert "oldest_version" not in written


def test_field_of_a_newer_protocol_is_ignored() -> None:
    assert from_json({"id": "a", "from_the_future": {"x": 1}}, types_pb2.Task).id == "a"


@pytest.mark.parametrize("data", [None, 3, "text", [], [{}], True])
def test_json_that_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(DataError, match=r"no Task but .* a JSON object is expected"):
        from_json(data, types_pb2.Task)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"id": 3}, types_pb2.Task),
        ({"messages": {}}, types_pb2.Task),
        ({"shape": [-1]}, types_pb2.Tensor),
        ({"data": "a"}, types_pb2.Image),
        ({"text": "a", "image": {}}, types_pb2.ContentPart),
        ({"id": "a", "scored": {"value": 1}, "unscored": {}}, types_pb2.Score),
        ({"step": 2**32}, environment_pb2.Action),
        ({"items": [None]}, reward_pb2.ScoreRequest),
    ],
)
def test_json_of_the_wrong_shape_is_refused(data: Any, kind: Any) -> None:
    with pytest.raises(DataError, match=f"this is no {kind.__name__}"):
        from_json(data, kind)
