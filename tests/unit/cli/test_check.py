"""`rlforge check`: a table or an object, and an exit code that scripts can go by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlforge.checks.load import Load, advice_on
from rlforge.cli import main

ARM = """
class Arm:
    deterministic = True

    def reset(self, task, seed):
        self.left = seed % 20 + 3
        return f"{self.left} cm left"

    def step(self, action):
        self.left -= 1
        return f"{self.left} cm left", 0.5, self.left <= 0, False, {}


class Moody(Arm):
    def reset(self, task, seed):
        import random

        self.left = random.randrange(1000)
        return f"{self.left} cm left"


def zero(rollout):
    return 0.0
"""


@pytest.fixture
def arm(tmp_path: Path) -> str:
    (tmp_path / "arm.py").write_text(ARM)
    return f"python:{tmp_path}/arm.py"


def check(*words: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(["check", *words, "--patience", "10", "--seconds", "0.2"])
    return int(exit.value.code or 0)


def test_an_environment_that_holds_exits_with_0(arm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("environment", f"{arm}:Arm", "--only", "seed", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert [(each["name"], each["outcome"]) for each in said["findings"]] == [("same seed, same world", "passed")]
    assert said["facts"]["replies"] == "words on trial"


def test_one_that_does_not_exits_with_1_and_says_why_and_what_to_do(
    arm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("environment", f"{arm}:Moody", "--only", "seed") == 1
    table = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "failed same seed, same world" in table
    assert "why: the members of a group share a baseline" in table
    assert "do: draw all chance from the seed" in table


def test_given_actions_are_what_the_world_is_stepped_with(arm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("environment", f"{arm}:Arm", "--only", "one observation", "--actions", "left", "--json") == 0
    assert json.loads(capsys.readouterr().out)["facts"]["replies"] == "--actions"


def test_a_reward_that_tells_nothing_apart_exits_with_1(arm: str, capsys: pytest.CaptureFixture[str]) -> None:
    replies = Path(arm.removeprefix("python:")).with_name("replies.jsonl")
    replies.write_text('{"prompt": "1+1=", "answer": "2", "reply": "2"}\n')
    assert check("reward", f"{arm}:zero", "--on", str(replies), "--only", "right answer", "--json") == 1
    assert "earned 0, an empty reply 0" in json.loads(capsys.readouterr().out)["findings"][0]["told"]


def test_what_cannot_be_reached_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("environment", "grpc://127.0.0.1:1") == 2
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["environment", "ftp://host"], "does not begin with"),
        (["environment", "arm.py:Arm"], "code of yours is python:arm.py:Arm"),
        (["environment", "python:arm.py"], "does not say which name to take; write file.py:name"),
        (["environment", "grpc://host:1", "--token", "secret"], "env:NAME"),
        (["environment", "grpc://host:1", "--worlds", "0"], "worlds"),
    ],
)
def test_what_makes_no_sense_exits_with_2(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(*words) == 2
    assert says in capsys.readouterr().err


def test_an_unknown_property_is_named_with_those_there_are(arm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("environment", f"{arm}:Arm", "--only", "sede") == 2
    assert "same seed, same world" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "many"), [("environment", "worlds"), ("reward", "requests")])
def test_advice_to_try_more_names_an_option_of_the_command(
    kind: str, many: str, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = [Load(at_once=n, seconds=1.0, counts={"steps": 10 * n}, step_s=(0.1,)) for n in (1, 8)]
    [advice] = advice_on(loads, "steps", many)
    assert advice.endswith(f"try more with --{many}")
    with pytest.raises(SystemExit):
        main(["check", kind, "--help"])
    assert f"--{many}" in capsys.readouterr().out
