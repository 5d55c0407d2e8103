"""The commands put together, and errors turned into one clear message and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext

import typer

from rlforge import __version__
from rlforge.cli import bench, check, recipe, reward, runs, serve, train
from rlforge.cli.output import objects_alone
from rlforge.errors import ConfigError, RlforgeError

app = typer.Typer(
    name="rlforge",
    help="Train language models by reinforcement learning in your own environment. "
    "`--debug` anywhere shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
app.command("train")(train.train)
app.command("eval")(train.evaluate)
app.add_typer(check.app, name="check")
app.add_typer(recipe.app, name="recipe")
app.add_typer(reward.app, name="reward")
app.add_typer(runs.app, name="runs")
app.add_typer(serve.app, name="serve")
app.command("bench")(bench.bench)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Reinforcement learning for language models."""
    if show:
        print(f"rlforge {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit code 2 for a wrong recipe or command line, 1 for any other error, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        with objects_alone() if "--json" in given else nullcontext():
            app([argument for argument in given if argument != "--debug"], prog_name="rlforge")
    except RlforgeError as error:
        if debug:
            traceback.print_exc()
        print(f"rlforge: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        print("rlforge: stopped", file=sys.stderr)
        sys.exit(130)
