"""Rollouts come back from the file as they went in."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlforge.errors import RunError
from rlforge.runlog.evaluations import TaskResult, read_results, write_results
from rlforge.runlog.rollouts import read_rollouts, write_rollouts
from rlforge.types import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    ImagePart,
    JsonPart,
    Message,
    Reward,
    Rollout,
    RolloutKey,
    Sampling,
    Score,
    StopReason,
    Task,
    TensorPart,
    TextPart,
    ToolCall,
    Turn,
)

_NEW = ("components", "info")
"""What turns had not in the first schema."""


def _turn(seed: int, prompt: int = 25, sampled: int = 4) -> Turn:
    completion = Completion(
        token_ids=tuple(range(seed, seed + sampled)),
        logprobs=tuple(-0.1 * index - seed / 7 for index in range(sampled)),
        policy_versions=(3,) * sampled,
        finish_reason=FinishReason.STOP,
    )
    return Turn(
        prompt_ids=tuple(range(prompt)), completion=completion, message=Message.of("assistant", f"reply {seed}")
    )


def _rollout(task: Task, member: int) -> Rollout:
    score = Score(scorer="exact", value=float(member % 2), components={"format": 1.0}, reason="matched", seconds=0.01)
    return Rollout(
        key=RolloutKey(task_id=task.id, group="g", member=member),
        task=task,
        seed=member,
        turns=(_turn(member),),
        stop_reason=StopReason.COMPLETED,
        sampling=Sampling(temperature=0.7, stop=("\n",)),
        reward=Reward(value=score.value, scores=(score,)),
        timings={"generate_s": 0.25, "score_s": 0.01},
    )


def _group(index: int, size: int = 8) -> Group:
    task = Task(
        id=f"add/{index}", messages=(Message.of("user", "12+34="),), answer="46", info={"n": [1, None]}, source="add"
    )
    request = GroupRequest(task=task, group="g", size=size, sampling=Sampling(), seed=0)
    return Group(request=request, rollouts=tuple(_rollout(task, member) for member in range(size)))


def _forked_group() -> Group:
    """A rollout tree with two turns, an unscored child, every kind of part and a member that never spoke."""
    group = _group(0, 3)
    parts = (
        TextPart(text="ä\r\n"),
        ImagePart(data=b"\x00\xff", mime="image/png"),
        JsonPart(value={"a": [1, 2]}),
        TensorPart(dtype="float32", shape=(1, 2), data=b"12345678"),
    )
    call = ToolCall(id="c", name="search", arguments='{"broken')
    said = Message(role="assistant", content=parts, tool_calls=(call,))
    observed = (Message(role="tool", content=(TextPart(text="42"),), tool_call_id="c"),)
    first, second, third = group.rollouts
    failed = Score(scorer="judge", error_kind="timeout", retryable=True, attempts=3, output="printed")
    grandchild = replace(second, role="critic", parent="child", reward=None, turns=())
    child = replace(
        second,
        role="helper",
        parent=first.id,
        children=(grandchild,),
        reward=Reward(value=None, scores=(failed,), reason="judge"),
    )
    heard = {"observation": observed, "reward": 0.5, "components": {"found": 1.0}, "info": {"at": [1, None]}}
    turns = (replace(_turn(1), message=said, **heard), _turn(2, sampled=0))
    tree = replace(first, opening=observed, turns=turns, children=(child, grandchild), error="")
    silent = replace(third, turns=(), stop_reason=StopReason.TIMEOUT, error="waited", reward=None, timings={})
    return replace(group, rollouts=(tree, second, silent))


def test_rollouts_come_back_equal(tmp_path: Path) -> None:
    groups = [_forked_group(), _group(1)]
    rows = write_rollouts(tmp_path / "a.parquet", groups)
    back = read_rollouts(tmp_path / "a.parquet")
    assert back == [rollout for group in groups for rollout in group.rollouts]
    assert rows == sum(len(list(rollout.walk())) for rollout in back)
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 1


def test_a_step_without_rollouts_comes_back_empty(tmp_path: Path) -> None:
    write_rollouts(tmp_path / "a.parquet", [])
    assert read_rollouts(tmp_path / "a.parquet") == []


def test_members_of_a_group_share_their_task_after_reading(tmp_path: Path) -> None:
    write_rollouts(tmp_path / "a.parquet", [_group(0)])
    assert len({id(rollout.task) for rollout in read_rollouts(tmp_path / "a.parquet")}) == 1


def test_half_a_surrogate_pair_costs_a_character_wherever_it_stands(tmp_path: Path) -> None:
    group = _forked_group()
    half = Message.of("user", "a\ud83db")
    score = Score(scorer="judge", value=1.0, reason="\ud83d", output="\udc00")
    turn = replace(_turn(1), message=half, observation=(half,), info={"at": "\ud83d"})
    task = replace(group.request.task, messages=(half,))
    torn = replace(
        group.rollouts[1],
        task=task,
        opening=(half,),
        turns=(turn,),
        error="\ud83d",
        reward=Reward(value=1.0, scores=(score,), reason="\ud83d"),
    )
    write_rollouts(tmp_path / "a.parquet", [replace(group, rollouts=(*group.rollouts, torn))])
    *whole, back = read_rollouts(tmp_path / "a.parquet")
    assert whole == list(group.rollouts)
    assert (back.error, back.reward.reason, back.reward.scores[0].output) == ("?", "?", "?")
    written = (*back.task.messages, *back.opening, back.turns[0].message, *back.turns[0].observation)
    assert [message.text for message in written] == ["a?b"] * 4


def test_torn_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_rollouts(path, [_group(0)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match="is torn"):
        read_rollouts(path)


def test_file_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_rollouts(path, [_group(0)])
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"rlforge_schema": b"99"}), path)
    with pytest.raises(RunError, match="schema version 99"):
        read_rollouts(path)


def test_rollouts_of_the_first_schema_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_rollouts(path, [_group(0)])
    table = pq.read_table(path)
    (turns,) = (table.schema.get_field_index(name) for name in ["turns"])
    kind = pa.list_(pa.struct([f for f in table.schema.field("turns").type.value_type if f.name not in _NEW]))
    before = [[{k: v for k, v in t.items() if k not in _NEW} for t in row] for row in table["turns"].to_pylist()]
    old = table.set_column(turns, "turns", pa.array(before, kind)).drop_columns(["opening"])
    pq.write_table(old.replace_schema_metadata({b"rlforge_schema": b"1"}), path)
    assert read_rollouts(path) == list(_group(0).rollouts)


def test_evaluation_results_come_back_equal(tmp_path: Path) -> None:
    results = [
        TaskResult(task_id="add/0", source="add", reward=1.0, success=True, reply="46", reason="matched"),
        TaskResult(task_id="add/1", member=2),
    ]
    write_results(tmp_path / "e.parquet", results)
    assert read_results(tmp_path / "e.parquet") == results
