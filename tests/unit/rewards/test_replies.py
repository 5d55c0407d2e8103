"""Rollouts from a file of replies."""

import json

import pytest

from rlforge.errors import DataError
from rlforge.rewards.replies import rollouts_from_jsonl


def write(folder, *rows):
    path = folder / "replies.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_task_beside_the_reply_or_under_its_own_key(tmp_path):
    path = write(
        tmp_path,
        {"prompt": "12+34=", "reply": "46", "answer": "46", "id": "a", "source": "addition", "info": {"k": 1}},
        "",
        {"task": {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, "reply": ""},
    )
    first, second = rollouts_from_jsonl(path)
    assert (first.text, first.task.answer, first.task.id, first.task.source) == ("46", "46", "a", "addition")
    assert first.task.messages[0].text == "12+34="
    assert first.task.info == {"k": 1}
    assert [message.role for message in second.task.messages] == ["system", "user"]
    assert second.task.id == "line-3"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "not valid JSON: Expecting property name"),
        ([1], "a row must be a JSON object"),
        ({"prompt": "a"}, "'reply' must be a text, not None"),
        ({"reply": "a"}, "'prompt' or its 'messages'"),
        ({"reply": "a", "prompt": "a", "messages": []}, "one of the two"),
        ({"reply": "a", "prompt": "a", "anwser": 1}, "Did you mean 'answer'"),
        ({"reply": "a", "task": {"prompt": "a", "anwser": 1}}, "Did you mean 'answer'"),
        ({"reply": "a", "task": {"prompt": "a"}, "answer": 1}, "not both"),
        ({"reply": "a", "messages": [{"role": "robot", "content": "a"}]}, "not 'robot'"),
        ({"reply": "a", "messages": [{"role": "user", "content": 1}]}, "content must be a text"),
        ({"reply": "a", "messages": "a"}, "'messages' must be a list"),
        ({"reply": "a", "prompt": "a", "info": 1}, "'info' must be a JSON object"),
    ],
)
def test_bad_row_is_named_by_file_and_line(tmp_path, row, said):
    path = write(tmp_path, {"prompt": "a", "reply": "b"}, row)
    with pytest.raises(DataError) as refused:
        rollouts_from_jsonl(path)
    assert f"{path}:2: " in str(refused.value)
    assert said in str(refused.value)


def test_bytes_that_are_not_utf8_are_named_by_line_and_a_mark_before_the_first_is_no_fault(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a", "reply": "b"}\n{"prompt": "a", "reply": "\xff"}\n')
    with pytest.raises(DataError, match=r"replies.jsonl:2: not valid UTF-8 at byte 26"):
        rollouts_from_jsonl(path)


def test_empty_or_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no rollouts"):
        rollouts_from_jsonl(write(tmp_path))
    with pytest.raises(DataError, match="there is no file"):
        rollouts_from_jsonl(tmp_path / "nowhere.jsonl")
