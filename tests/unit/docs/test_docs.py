"""The documentation says what is so: links lead somewhere, commands parse, recipes validate, metric keys exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rlforge.cli.app import app
from rlforge.recipe import Recipe, read_document
from rlforge.recipe.strict_yaml import parse_yaml

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*/*.md"),
        *(ROOT / "environments").glob("*/README.md"),
    ]
)
RECIPES = sorted((ROOT / "examples").glob("*/recipe.yaml"))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS: Any = typer.main.get_command(app)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(path: Path, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(path.read_text("utf-8")) if language in languages]


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Every `rlforge …` line in a block of commands, comments cut off."""
    for page in PAGES:
        for line in "\n".join(fences(page, "", "sh")).splitlines():
            words = shlex.split(line, comments=True) if re.match(r"(\.venv/bin/)?rlforge ", line) else []
            if words:
                yield name(page), words[1:]


def named_commands() -> Iterator[tuple[str, list[str]]]:
    """Every `rlforge …` in running text; it may leave arguments out, or list alternatives."""
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text("utf-8"))
        for said in re.findall(r"`rlforge ([^`\n]+)`", prose):
            if "|" not in said and "…" not in said:
                yield name(page), said.split()


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words begin with, and the words left."""
    command, left = COMMANDS, list(words)
    while hasattr(command, "commands") and left and left[0] in command.commands:
        command, left = command.commands[left[0]], left[1:]
    return command, left


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = _FENCE.sub("", page.read_text("utf-8"))
    targets = [target.partition("#")[0] for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)]
    missing = [target for target in targets if target and ":" not in target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize(("page", "words"), list(shown_commands()))
def test_every_command_line_shown_can_be_typed(page: str, words: list[str]) -> None:
    command, left = command_of(words)
    assert not hasattr(command, "commands"), f"{page}: 'rlforge {' '.join(words)}' names no command"
    command.make_context(command.name, left)  # raises on an unknown flag, a missing argument or a wrong type


@pytest.mark.parametrize(("page", "words"), list(named_commands()))
def test_every_command_named_in_text_exists_with_its_flags(page: str, words: list[str]) -> None:
    command, left = command_of(words)
    assert command is not COMMANDS or left[0].startswith("-"), f"{page}: 'rlforge {' '.join(words)}' names no command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}
    assert {word for word in left if word.startswith("--")} <= known


@pytest.mark.parametrize(
    ("page", "text"), [(name(page), text) for page in PAGES for text in fences(page, "yaml")], ids=lambda v: str(v)[:30]
)
def test_every_recipe_or_part_of_one_validates(page: str, text: str) -> None:
    shown = parse_yaml(text, page).data
    Recipe.parse(shown if "stages" in shown else completed(shown))


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_every_example_recipe_validates(path: Path) -> None:
    read_document(path).recipe()


def completed(part: dict[str, Any]) -> dict[str, Any]:
    """A whole recipe around keys of a recipe or of an rl stage."""
    stage = {"type": "rl", "name": "grpo", "data": [{"type": "jsonl", "path": "tasks.jsonl"}], "steps": 1}
    whole: dict[str, Any] = {"name": "shown", "model": {"path": "model"}, "stages": [stage]}
    for key, value in part.items():
        (whole if key in Recipe.model_fields else stage)[key] = value
    return whole
