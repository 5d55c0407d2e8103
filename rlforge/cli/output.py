"""Where output goes: results to stdout, everything else to stderr; with `--json`, one object on stdout."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides: learner.lr=1e-4, stages.NAME.steps=10.")]
RunsFolder = Annotated[str, typer.Option("--runs-dir", help="Folder of the run folders.")]


def results() -> Console:
    """What was asked for; wide where no terminal says how wide."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)


def messages() -> Console:
    """Everything else."""
    return Console(file=sys.stderr, highlight=False)


def print_json(value: Any) -> None:
    """One object on one line."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)
