import json
from pathlib import Path
from typing import Any

import pytest

from rlforge.data.jsonl import JsonlSource
from rlforge.data.rows import as_conversation, texts_of
from rlforge.errors import DataError
from rlforge.types import Conversation, Document, Message, Task, ToolSpec


def source(folder: Path, *rows: Any, **config: Any) -> JsonlSource:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return JsonlSource(JsonlSource.Config.parse({"path": "rows.jsonl", **config}), base=folder)


def test_a_prompt_becomes_a_task_with_one_user_message(tmp_path: Path) -> None:
    task = source(tmp_path, {"id": "17", "prompt": "1+2=", "answer": 3, "info": {"digits": 1}}, name="addition")[0]
    expected = Task(
        id="addition/17", messages=(Message.of("user", "1+2="),), answer=3, info={"digits": 1}, source="addition"
    )
    assert task == expected


def test_rows_are_read_at_any_index_whatever_bytes_stand_between(tmp_path: Path) -> None:
    rows = [{"prompt": "ü" * n, "answer": "€"} for n in range(1, 6)]
    made = source(tmp_path, rows[0], "", rows[1], "   ", *rows[2:])
    assert [made[i].messages[0].text for i in (4, 0, 2)] == ["ü" * 5, "ü", "ü" * 3]
    assert [made[i].id for i in range(5)] == ["rows/1", "rows/3", "rows/5", "rows/6", "rows/7"]


def test_the_keys_of_the_rows_say_what_they_are(tmp_path: Path) -> None:
    asked, said = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
    assert isinstance(source(tmp_path, {"text": "once"})[0], Document)
    assert isinstance(source(tmp_path, {"prompt": "hi", "completion": "ho"})[0], Conversation)
    assert isinstance(source(tmp_path, {"messages": [asked, said]})[0], Conversation)
    assert isinstance(source(tmp_path, {"messages": [asked, said, asked]})[0], Task)
    assert isinstance(source(tmp_path, {"messages": [asked, said]}, kind="tasks")[0], Task)


def test_tools_are_read_as_openai_writes_them(tmp_path: Path) -> None:
    function = {"name": "go", "description": "Walk.", "parameters": {"type": "object"}}
    row = {"prompt": "hi", "completion": "ho", "tools": [{"type": "function", "function": function}]}
    conversation = source(tmp_path, row)[0]
    assert isinstance(conversation, Conversation)
    assert conversation.tools == (ToolSpec(name="go", description="Walk.", parameters={"type": "object"}),)
    assert "Walk." in "".join(texts_of(conversation))


def test_columns_of_other_people_are_renamed(tmp_path: Path) -> None:
    row = {"question": "1+2=", "answer": "3", "level": 4}
    made = source(tmp_path, row, columns={"prompt": "question"}, extra_keys="keep")
    assert made[0].messages[0].text == "1+2="
    assert made[0].info == {"level": 4}
    with pytest.raises(DataError, match=r"rows.jsonl:1: the row has no column 'query'.*it has question, answer, level"):
        source(tmp_path, row, columns={"prompt": "query"})


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("{", "not valid JSON"),
        ("[1]", r"a row is a mapping of names to values, not \[1\]"),
        ({"prompt": "x", "anwser": "3"}, "unknown key 'anwser' in tasks. Did you mean 'answer'"),
        ({"question": "x", "answer": "3"}, r"if it is the prompt, .* columns: \{prompt: question\}"),
        ({"prompt": "x", "ground_truth": "3"}, r"if it is the answer, .* columns: \{answer: ground_truth\}"),
        ({"answer": "3"}, "give either 'prompt'"),
        ('{"prompt": "x\\ud83d"}', "half a surrogate pair"),
        ('{"prompt": "x", "answer": "\\ud83d"}', "half a surrogate pair"),
        ('{"text": "x\\ud83d"}', "half a surrogate pair"),
        ({"messages": [{"role": "assistant", "tool_calls": 3}]}, r"messages\[0\].tool_calls is a list of tool calls"),
        ({"messages": [{"role": "tool", "tool_call_id": 3}]}, r"messages\[0\].tool_call_id is a text, not 3"),
        ({"prompt": 3}, "prompt is a list of messages with at least one, not 3"),
        ({"messages": []}, "messages is a list of messages with at least one"),
        ({"messages": [{"role": "robot", "content": ""}]}, r"messages\[0\].role is one of .* not 'robot'"),
        ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content is a text, not 3"),
        ({"messages": [{"role": "user", "contents": "x"}]}, r"messages\[0\] has the unknown key 'contents'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "only parts of type text"),
        ({"prompt": "x", "completion": 3}, "completion is a text, not 3"),
        ({"prompt": "x", "completion": "y", "tools": "go"}, "tools is a list of tools, not 'go'"),
        ({"prompt": "x", "completion": "y", "tools": [{"name": "go"}]}, r"tools\[0\]: a tool looks like"),
        ({"prompt": "x", "info": 3}, "info is a mapping, not 3"),
        ({"prompt": "x", "id": 1.5}, "id is a text or a whole number"),
        ({"id": "1", "prompt": "x"}, "the id 'rows/1' occurs twice"),
        ({"text": "a document"}, "'rows/2' is one of documents in a source of tasks"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line_or_skipped_by_name(tmp_path: Path, row: Any, wrong: str) -> None:
    good = {"id": "1", "prompt": "1+2="}
    with pytest.raises(DataError, match=wrong):
        source(tmp_path, good, row)
    made = source(tmp_path, good, row, {"prompt": "3"}, on_bad_row="skip")
    assert [item.messages[0].text for item in (made[0], made[1])] == ["1+2=", "3"]
    (reason,) = made.skipped
    assert "rows.jsonl:2: " in reason


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not valid UTF-8"):
        JsonlSource(JsonlSource.Config(path="rows.jsonl"), base=tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source 'gone': cannot open '.*/gone\.jsonl': No such file"):
        JsonlSource(JsonlSource.Config(path="gone.jsonl"), base=tmp_path)


def test_a_file_without_usable_rows_says_how_many_were_bad(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source 'rows' has no items: 2 rows read, 2 of them bad"):
        source(tmp_path, "{", "{", on_bad_row="skip")


def test_a_file_that_changed_under_the_run_is_noticed(tmp_path: Path) -> None:
    made = source(tmp_path, {"prompt": "a"}, {"prompt": "b"})
    (tmp_path / "rows.jsonl").write_text("x" * 40)
    with pytest.raises(DataError, match="the file has changed since it was opened"):
        made[1]


def test_tool_calls_are_read_in_the_usual_shape(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    spoken = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "3"}
    message = source(tmp_path, {"messages": [{"role": "user", "content": "x"}, spoken, answer]})[0].messages[1]
    assert (message.tool_calls[0].name, message.tool_calls[0].arguments) == ("add", '{"a": 1}')


def test_a_task_with_an_answer_serves_as_a_conversation() -> None:
    task = Task(id="t", messages=(Message.of("user", "1+2="),), answer=3)
    assert as_conversation(task).messages[-1] == Message.of("assistant", "3")
    assert list(texts_of(task)) == ["1+2=", "3"]
    with pytest.raises(DataError, match="task 't' has no answer"):
        as_conversation(Task(id="t", messages=task.messages))
    with pytest.raises(DataError, match="'d' is a document"):
        as_conversation(Document(id="d", text="x"))
