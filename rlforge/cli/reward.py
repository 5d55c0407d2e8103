"""`rlforge reward check | rescore`: a reward on stored rollouts, before any training or after it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from rlforge.cli.output import AsJson, RunsFolder, print_json, results
from rlforge.cli.runs import Run, Stage, find_run

if TYPE_CHECKING:
    from rlforge.run.rescore import Distribution, Rescored

app = typer.Typer(help="Try a reward.", no_args_is_help=True)


@app.callback()
def reward() -> None:
    """Try a reward before training with it, or another one on what was played."""


@app.command("check")
def check(
    target: Annotated[str, typer.Argument(metavar="FILE.py:function", help="The reward function.")],
    on: Annotated[Path, typer.Option("--on", help="Rollouts to score: JSONL.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings of the scorer: batch=true, options.tolerance=0.1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score stored rollouts as training would: outcomes, times, distribution. Exit code 1 when some stay unscored."""
    # scorers start processes; nothing of them is needed for `--help`
    from rlforge.recipe.overrides import parse_override, plain
    from rlforge.rewards.check import run_check

    report = run_check(target, on, **plain(map(parse_override, settings or ())))
    if as_json:
        print_json(report.to_dict())
    else:
        table = Table(show_header=False, show_edge=False, pad_edge=False)
        for label, value in report.rows():
            table.add_row(Text(label), Text(value))
        results().print(table)
    if not report.ok:
        raise typer.Exit(1)


@app.command("rescore")
def rescore(
    run: Run,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Recipe with the scorers; the run's own if left out.")
    ] = None,
    stage: Stage = None,
    step: Annotated[int | None, typer.Option("--step", help="Step; all if left out.")] = None,
    runs_dir: RunsFolder = "runs",
    as_json: AsJson = False,
) -> None:
    """Judge a run's stored rollouts anew, generating nothing: new scores beside the old, both distributions shown."""
    # the run folder brings pyarrow
    from rlforge.recipe import load_recipe
    from rlforge.run.rescore import rescore as judge_anew
    from rlforge.runlog.folder import RunFolder

    folder = RunFolder.open(find_run(run, runs_dir))
    told = asyncio.run(judge_anew(folder, load_recipe(recipe or folder.recipe_path), stage=stage, step=step))
    if as_json:
        print_json(told.to_dict())
        return
    results().print(_compared(told))
    results().print(Text(f"{told.rollouts} rollouts; new scores in {told.kept_in}"))


def _compared(told: Rescored) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for column in ("scorer", "", "scored", "mean", "std", "low", "median", "high"):
        table.add_column(column)
    for name in dict.fromkeys([*told.before, *told.after]):
        for when, found in (("before", told.before.get(name)), ("after", told.after.get(name))):
            table.add_row(Text(name if when == "before" else ""), when, *_numbers(found))
    return table


def _numbers(found: Distribution | None) -> list[str]:
    if found is None:
        return ["-"] * 6
    values = (found.mean, found.std, found.low, found.median, found.high)
    return [f"{found.scored} of {found.rollouts}", *("-" if value is None else f"{value:.3f}" for value in values)]
