"""Where output goes: results to stdout, everything else to stderr; with `--json`, one object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides: learner.lr=1e-4, stages.NAME.steps=10.")]
RunsFolder = Annotated[str, typer.Option("--runs-dir", help="Folder of the run folders.")]


_objects: ContextVar[TextIO | None] = ContextVar("objects", default=None)
"""Where `print_json` prints while nothing else may print to stdout."""


@contextmanager
def objects_alone() -> Generator[None]:
    """Leave stdout to `print_json`; what the user's functions and modules print meanwhile goes to stderr."""
    before = _objects.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _objects.reset(before)


def results() -> Console:
    """What was asked for; wide where no terminal says how wide."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)


def messages() -> Console:
    """Everything else."""
    return Console(file=sys.stderr, highlight=False)


def print_json(value: Any) -> None:
    """One object on one line."""
    print(json.dumps(value, ensure_ascii=False, default=str), file=_objects.get(), flush=True)
