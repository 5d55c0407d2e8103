"""`rlforge reward check`: a reward on stored rollouts, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rlforge.cli.output import AsJson, print_json, results

app = typer.Typer(help="Try a reward.", no_args_is_help=True)


@app.callback()
def reward() -> None:
    """Try a reward before training with it."""


@app.command("check")
def check(
    target: Annotated[str, typer.Argument(metavar="FILE.py:function", help="The reward function.")],
    on: Annotated[Path, typer.Option("--on", help="Rollouts to score: JSONL.")],
    as_json: AsJson = False,
) -> None:
    """Score stored rollouts as training would: outcomes, times, distribution. Exit code 1 when some stay unscored."""
    # scorers start processes; nothing of them is needed for `--help`
    from rlforge.rewards.check import run_check

    report = run_check(target, on)
    if as_json:
        print_json(report.to_dict())
    else:
        table = Table(show_header=False, show_edge=False, pad_edge=False)
        for label, value in report.rows():
            table.add_row(Text(label), Text(value))
        results().print(table)
    if not report.ok:
        raise typer.Exit(1)
