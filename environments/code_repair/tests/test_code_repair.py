"""Tasks, tools and the reward of the code repair environment."""

import asyncio
import json
import subprocess
import sys

import pytest
from code_repair import CodeRepair
from code_repair.functions import TEST
from code_repair.tasks import tasks_of

from rlforge.environments.adapt import adapt
from rlforge.types import Message, Task, ToolCall, WorldStart


def call(name: str, **arguments: str) -> Message:
    return Message(role="assistant", tool_calls=(ToolCall(id="1", name=name, arguments=json.dumps(arguments)),))


async def play(task: Task, *replies: Message):
    environment = adapt(CodeRepair)
    world, _ = await environment.open(WorldStart(task=task, seed=1))
    seen = [await world.step(reply) for reply in replies]
    await world.close()
    await environment.close()
    return seen


def test_hundreds_of_distinct_tasks_and_no_function_in_both_splits() -> None:
    train, test = tasks_of("train"), tasks_of("test")
    assert len(train) >= 250
    assert len(test) >= 70
    assert len({task.info["broken"] for task in train + test}) == len(train) + len(test)
    functions = [{task.id.split("/")[1] for task in split} for split in (train, test)]
    assert functions[1] == set(TEST)
    assert not functions[0] & functions[1]


def test_tasks_are_the_same_in_every_process() -> None:
    code = "from code_repair.tasks import tasks_of; print(repr(tasks_of('test')))"
    path = [sys.path[0], *sys.path]
    prints = {
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {code}"],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_neither_the_reference_nor_a_test_is_in_what_the_model_is_told() -> None:
    for task in tasks_of("train"):
        assert "def " not in task.messages[0].text
        assert "assert" not in task.messages[0].text


@pytest.mark.parametrize("index", range(3))
async def test_reading_testing_repairing_and_submitting_earns_the_reward(index: int) -> None:
    task = tasks_of("train")[index]
    replies = (call("read"), call("test"), call("write", code=task.answer), call("test"), call("submit"))
    read, failed, _, passed, submitted = await play(task, *replies)
    assert read.messages[0].text == task.info["broken"]
    assert "expected" in failed.messages[0].text
    assert passed.messages[0].text == "4 of 4 tests passed."
    assert (submitted.terminated, submitted.reward) == (True, 1.0)
    assert [each.reward for each in (read, failed, passed)] == [0.0] * 3


async def test_submitting_what_does_not_pass_earns_nothing() -> None:
    tasks = tasks_of("test")
    played = await asyncio.gather(
        play(tasks[0], call("submit")), play(tasks[1], call("write", code=""), call("submit"))
    )
    for seen in played:
        assert (seen[-1].terminated, seen[-1].reward) == (True, 0.0)


async def test_memorising_the_visible_tests_is_not_enough() -> None:
    task = next(each for each in tasks_of("test") if "/digits_sum/" in each.id)
    lines = [line for line in task.info["visible"].splitlines() if " = " in line]
    arguments = [line.partition("(")[2].rpartition(")")[0] for line in lines[::2]]
    table = {int(given): int(line.partition(" = ")[2]) for given, line in zip(arguments, lines[1::2], strict=True)}
    code = f"def digits_sum(number):\n    return {table!r}.get(number)\n"
    tested, submitted = (await play(task, call("write", code=code), call("test"), call("submit")))[1:]
    assert tested.messages[0].text == "4 of 4 tests passed."
    assert submitted.reward == 0.0


async def test_a_piece_is_replaced_only_where_it_is_meant() -> None:
    task = tasks_of("train")[0]
    _, twice, missing, once = await play(
        task, call("read"), call("replace", old="e", new="x"), call("replace", old="@", new="x"),
        call("replace", old="def ", new="def  "),
    )  # fmt: skip
    assert "Nothing was changed" in twice.messages[0].text
    assert "occurs 0 times" in missing.messages[0].text
    assert once.messages[0].text == "Changed."


async def test_code_that_hangs_is_told_and_costs_only_its_time() -> None:
    task = tasks_of("train")[0]
    tested, submitted = (await play(task, call("write", code="while True: pass"), call("test"), call("submit")))[1:]
    assert "0 of 4 tests passed" in tested.messages[0].text
    assert submitted.reward == 0.0
