"""rollouts/<stage>-<step>.parquet: every rollout of a step, one row each, children after their parents.

Writing is inside the training step, so the columns are built from flat arrays rather than from nested Python objects.
Token facts, scores and timings are real columns (DuckDB or pandas can query them); messages and tasks are JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlforge.errors import RunError
from rlforge.runlog import schema
from rlforge.runlog.atomic import atomic_file
from rlforge.runlog.codec import (
    message_from_json,
    message_to_json,
    score_from_json,
    score_to_json,
    task_from_json,
    task_to_json,
)
from rlforge.types import (
    Completion,
    FinishReason,
    Group,
    Message,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    StopReason,
    Task,
    Turn,
)

SCHEMA_KEY = b"rlforge_schema"
Table: TypeAlias = Any  # pyarrow ships no types
Column: TypeAlias = Any


def write_rollouts(path: Path, groups: Iterable[Group]) -> int:
    """Write every rollout of `groups`; returns the number of rows.

    The file is renamed into place but not waited for: no run needs it to resume, and the disk may take its time.
    """
    rows, parents = _flatten([rollout for group in groups for rollout in group.rollouts])
    table = _table(rows, parents)
    with atomic_file(path, durable=False) as temporary:
        pq.write_table(table, temporary, row_group_size=max(1, len(rows)), compression="snappy", use_dictionary=False)
    return len(rows)


def read_rollouts(path: Path) -> list[Rollout]:
    """The rollouts of a file, children in their places. Raises RunError when it is not there, torn or newer than us."""
    table = read_table(path, schema.ROLLOUTS)
    sources = _Cache(lambda text: task_from_json(json.loads(text)))
    rows = table.to_pylist()
    rollouts = [_rollout(row, sources) for row in rows]
    children: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        children.setdefault(row["parent_row"], []).append(index)
    return [_tree(index, rollouts, children) for index in children.get(-1, [])]


def read_table(path: Path, known: int) -> Table:
    """A parquet file of ours. Raises RunError when it is not there, torn, or of a newer schema."""
    if not path.exists():
        raise RunError(f"{path} does not exist")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise RunError(f"{path} is torn: {error}") from error
    found = (table.schema.metadata or {}).get(SCHEMA_KEY)
    schema.check_schema(int(found) if found else None, known, path)
    return table


def _flatten(roots: Sequence[Rollout]) -> tuple[list[Rollout], list[int]]:
    """All rollouts, parents first, and for each the row of its parent (-1 at a root)."""
    rows: list[Rollout] = []
    parents: list[int] = []
    waiting = [(rollout, -1) for rollout in reversed(roots)]
    while waiting:
        rollout, parent = waiting.pop()
        waiting.extend((child, len(rows)) for child in reversed(rollout.children))
        rows.append(rollout)
        parents.append(parent)
    return rows, parents


# --- writing ---------------------------------------------------------------------------------------------------


def _table(rows: list[Rollout], parents: list[int]) -> Table:
    tasks = _Cache(lambda task: _json(task_to_json(task)), key=id)
    samplings = _Cache(lambda sampling: _json(_sampling_to_json(sampling)), key=id)
    columns = {
        "id": pa.array([r.id for r in rows], pa.string()),
        "parent_row": pa.array(parents, pa.int32()),
        "parent": pa.array([r.parent for r in rows], pa.string()),
        "role": pa.array([r.role for r in rows], pa.string()),
        "task_id": pa.array([r.key.task_id for r in rows], pa.string()),
        "epoch": pa.array([r.key.epoch for r in rows], pa.int64()),
        "group": pa.array([r.key.group for r in rows], pa.string()),
        "member": pa.array([r.key.member for r in rows], pa.int32()),
        "attempt": pa.array([r.key.attempt for r in rows], pa.int32()),
        "seed": pa.array([r.seed for r in rows], pa.int64()),
        "source": pa.array([r.task.source for r in rows], pa.string()),
        "stop_reason": pa.array([r.stop_reason.value for r in rows], pa.string()),
        "error": _texts([r.error for r in rows]),
        "rewarded": pa.array([r.reward is not None for r in rows], pa.bool_()),
        "reward": pa.array([r.reward.value if r.reward else None for r in rows], pa.float64()),
        "reward_reason": _texts([r.reward.reason if r.reward else "" for r in rows]),
        "scores": _scores([r.reward.scores if r.reward else () for r in rows]),
        "timings": _numbers_by_name([r.timings for r in rows]),
        "opening": _texts([_messages(r.opening) for r in rows]),
        "turns": _turns([r.turns for r in rows]),
        "task": _texts([tasks[r.task] for r in rows]),
        "sampling": pa.array([samplings[r.sampling] for r in rows], pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({SCHEMA_KEY: str(schema.ROLLOUTS)})


_SCORE = pa.struct(
    {
        "scorer": pa.string(),
        "value": pa.float64(),
        "components": pa.map_(pa.string(), pa.float64()),
        "reason": pa.string(),
        "error_kind": pa.string(),
        "retryable": pa.bool_(),
        "attempts": pa.int32(),
        "seconds": pa.float64(),
        "output": pa.string(),
    }
)


def _scores(scores: list[tuple[Any, ...]]) -> Column:
    flat = _texts([score_to_json(score) for score in chain.from_iterable(scores)], _SCORE)
    return pa.ListArray.from_arrays(_offsets(scores), flat)


def _numbers_by_name(mappings: list[Any]) -> Column:
    names = pa.array(list(chain.from_iterable(mappings)), pa.string())
    values = pa.array([value for mapping in mappings for value in mapping.values()], pa.float64())
    return pa.MapArray.from_arrays(_offsets(mappings), names, values)


def _turns(turns: list[tuple[Turn, ...]]) -> Column:
    flat = list(chain.from_iterable(turns))
    fields = {
        "prompt_ids": _numbers([turn.prompt_ids for turn in flat], np.int64),
        "token_ids": _numbers([turn.completion.token_ids for turn in flat], np.int64),
        "logprobs": _numbers([turn.completion.logprobs for turn in flat], np.float64),
        "policy_versions": _numbers([turn.completion.policy_versions for turn in flat], np.int64),
        "finish_reason": pa.array([turn.completion.finish_reason.value for turn in flat], pa.string()),
        "text": _texts([turn.message.text for turn in flat]),
        "message": _texts([_reply(turn.message) for turn in flat]),
        "observation": _texts([_messages(turn.observation) for turn in flat]),
        "reward": pa.array([turn.reward for turn in flat], pa.float64()),
        "components": _numbers_by_name([turn.components for turn in flat]),
        "info": _texts([_json(dict(turn.info)) if turn.info else None for turn in flat]),
    }
    struct = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    return pa.ListArray.from_arrays(_offsets(turns), struct)


def _reply(message: Message) -> str | None:
    """Null for the usual reply, an assistant's one text, which the column `text` says already."""
    return None if message == Message.of("assistant", message.text) else _json(message_to_json(message))


def _messages(messages: Sequence[Message]) -> str | None:
    return _json([message_to_json(message) for message in messages]) if messages else None


def _texts(values: list[Any], kind: Any = None) -> Column:
    """A column of texts, or of what holds some; a lone surrogate, which is no text, becomes a question mark."""
    try:
        return pa.array(values, kind or pa.string())
    except UnicodeEncodeError:
        return pa.array([_unicode(value) for value in values], kind or pa.string())


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return {name: _unicode(item) for name, item in value.items()} if isinstance(value, dict) else value


def _numbers(lists: list[tuple[Any, ...]], dtype: type[np.generic]) -> Column:
    offsets = _offsets(lists)
    flat = np.fromiter(chain.from_iterable(lists), dtype=dtype, count=int(offsets[-1]))
    return pa.ListArray.from_arrays(offsets, pa.array(flat))


def _offsets(lists: Sequence[Any]) -> Any:
    """Where each list begins in the flat values; [len(lists) + 1]."""
    return np.concatenate(([0], np.cumsum([len(item) for item in lists], dtype=np.int64))).astype(np.int32)


# --- reading ---------------------------------------------------------------------------------------------------


def _tree(index: int, rollouts: list[Rollout], children: dict[int, list[int]]) -> Rollout:
    below = tuple(_tree(child, rollouts, children) for child in children.get(index, []))
    return replace(rollouts[index], children=below) if below else rollouts[index]


def _rollout(row: dict[str, Any], tasks: _Cache) -> Rollout:
    key = RolloutKey(
        task_id=row["task_id"], epoch=row["epoch"], group=row["group"], member=row["member"], attempt=row["attempt"]
    )
    task: Task = tasks[row["task"]]
    return Rollout(
        key=key,
        task=task,
        seed=row["seed"],
        turns=tuple(_turn(turn) for turn in row["turns"]),
        stop_reason=StopReason(row["stop_reason"]),
        opening=_messages_from(row.get("opening")),
        sampling=_sampling_from_json(json.loads(row["sampling"])),
        role=row["role"],
        parent=row["parent"],
        reward=_reward(row) if row["rewarded"] else None,
        timings=dict(row["timings"]),
        error=row["error"],
    )


def _reward(row: dict[str, Any]) -> Reward:
    scores = tuple(score_from_json({**score, "components": dict(score["components"])}) for score in row["scores"])
    return Reward(value=row["reward"], scores=scores, reason=row["reward_reason"])


def _turn(row: dict[str, Any]) -> Turn:
    completion = Completion(
        token_ids=tuple(row["token_ids"]),
        logprobs=tuple(row["logprobs"]),
        policy_versions=tuple(row["policy_versions"]),
        finish_reason=FinishReason(row["finish_reason"]),
    )
    return Turn(
        prompt_ids=tuple(row["prompt_ids"]),
        completion=completion,
        message=_message(row),
        observation=_messages_from(row["observation"]),
        reward=row["reward"],
        components=dict(row.get("components") or ()),
        info=json.loads(row.get("info") or "{}"),
    )


def _messages_from(text: str | None) -> tuple[Message, ...]:
    return tuple(message_from_json(message) for message in json.loads(text or "[]"))


def _message(row: dict[str, Any]) -> Message:
    if row["message"] is None:
        return Message.of("assistant", row["text"])
    return message_from_json(json.loads(row["message"]))


def _sampling_to_json(sampling: Sampling) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "max_new_tokens", "stop")
    return {name: getattr(sampling, name) for name in names}


def _sampling_from_json(data: dict[str, Any]) -> Sampling:
    data["stop"] = tuple(data["stop"])
    return Sampling(**data)


_json = json.JSONEncoder(ensure_ascii=False, default=repr).encode


class _Cache(dict[Any, Any]):
    """Values made once per key: members of a group share their task and their sampling."""

    def __init__(self, make: Callable[[Any], Any], key: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._make = make
        self._key = key

    def __getitem__(self, item: Any) -> Any:
        key = self._key(item) if self._key else item
        if key not in self:
            self[key] = self._make(item)
        return super().__getitem__(key)
