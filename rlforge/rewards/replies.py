"""Rollouts read from a JSONL file of replies, to try a reward function on.

One JSON object a line:

    {"prompt": "12+34=", "reply": "46", "answer": "46"}
    {"task": {"messages": [{"role": "user", "content": "12+34="}], "answer": "46", "info": {}}, "reply": "46"}

`reply` is what the model said. The task is given by `prompt` (with `answer`, `info`, `source` and `id` beside it, all
optional) or as a whole under `task`, with `messages` or `prompt` in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from rlforge.errors import DataError
from rlforge.json_lines import parse_line
from rlforge.registry import suggest
from rlforge.types import Completion, FinishReason, Message, Rollout, RolloutKey, StopReason, Task, Turn

_TASK_KEYS = ("id", "messages", "prompt", "answer", "info", "source")
_KEYS = ("task", "reply", *_TASK_KEYS)


def rollouts_from_jsonl(path: str | Path) -> list[Rollout]:
    """The rollouts of a file. Raises DataError that names file and line of the first bad row, or an empty file."""
    rollouts = list(_read(Path(path)))
    if not rollouts:
        raise DataError(f"{path} holds no rollouts; write one JSON object a line, with 'prompt' and 'reply'")
    return rollouts


def _read(path: Path) -> Iterator[Rollout]:
    if not path.is_file():
        raise DataError(f"there is no file {path} to read rollouts from")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield _rollout(parse_line(line), number)
                except DataError as error:
                    raise DataError(f"{path}:{number}: {error}") from error


def _rollout(row: object, number: int) -> Rollout:
    row = _mapping(row, "a row")
    _refuse_unknown(row, _KEYS)
    if not isinstance(row.get("reply"), str):
        raise DataError(f"'reply' must be a text, not {row.get('reply')!r}")
    beside = {key: value for key, value in row.items() if key in _TASK_KEYS}
    if "task" in row and beside:
        raise DataError(f"give the task under 'task' or beside 'reply', not both ('{next(iter(beside))}' is beside it)")
    task = _task(_mapping(row.get("task", beside), "'task'"), number)
    completion = Completion(token_ids=(), logprobs=(), policy_versions=(), finish_reason=FinishReason.STOP)
    turn = Turn(prompt_ids=(), completion=completion, message=Message.of("assistant", row["reply"]))
    key = RolloutKey(task_id=task.id, group=task.id)
    return Rollout(key=key, task=task, seed=0, turns=(turn,), stop_reason=StopReason.COMPLETED)


def _task(row: Mapping[str, Any], number: int) -> Task:
    _refuse_unknown(row, _TASK_KEYS)
    if ("prompt" in row) == ("messages" in row):
        raise DataError("give the task's 'prompt' or its 'messages', one of the two")
    messages = [{"role": "user", "content": row["prompt"]}] if "prompt" in row else row["messages"]
    if not isinstance(messages, list):
        raise DataError(f"'messages' must be a list, not {messages!r}")
    return Task(
        id=str(row.get("id", f"line-{number}")),
        messages=tuple(_message(item) for item in cast(list[object], messages)),
        answer=row.get("answer"),
        info=_mapping(row.get("info", {}), "'info'"),
        source=str(row.get("source", "")),
    )


def _message(item: object) -> Message:
    item = _mapping(item, "a message")
    role, content = item.get("role"), item.get("content")
    if role not in ("system", "user", "assistant", "tool"):
        raise DataError(f"a message's role is system, user, assistant or tool, not {role!r}")
    if not isinstance(content, str):
        raise DataError(f"a message's content must be a text, not {content!r}")
    return Message.of(role, content)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{what} must be a JSON object, not {value!r}")
    return cast(Mapping[str, Any], value)


def _refuse_unknown(row: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in row:
        if key not in known:
            raise DataError(f"unknown key '{key}'. {suggest(key, known)}Known: {', '.join(known)}")
