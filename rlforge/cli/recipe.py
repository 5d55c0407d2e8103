"""`rlforge recipe show` and `rlforge recipe check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rlforge.cli.output import AsJson, Overrides, print_json, results

app = typer.Typer(help="Look at a recipe before it runs.", no_args_is_help=True)
RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, or a folder with a recipe.yaml.")]


@app.command("show")
def show(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print every resolved value, what it means, and where it came from."""
    # recipes load the configuration of every part they name
    from rlforge.recipe.load import read_document
    from rlforge.recipe.show import settings

    document = read_document(recipe, overrides or ())
    rows = settings(document, document.recipe())
    if as_json:
        print_json({"recipe": str(recipe), "settings": [asdict(row) for row in rows]})
        return
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("key", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold", style="green")
    table.add_column("origin", no_wrap=True)
    table.add_column("meaning", overflow="fold", style="dim")
    for row in rows:
        value = json.dumps(row.value, ensure_ascii=False, default=str)
        table.add_row(Text(row.key), Text(value), Text(row.origin), Text(" ".join(row.documentation.split())))
    results().print(table)


@app.command("check")
def check(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Find what is wrong with a recipe, and why. Exit code 2 when there are errors."""
    from rlforge.recipe.check import check_recipe

    findings = check_recipe(recipe, overrides or ())
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        print_json({"recipe": str(recipe), "errors": errors, "findings": [asdict(finding) for finding in findings]})
    else:
        console = results()
        for finding in findings:
            style = "red" if finding.severity == "error" else "yellow"
            console.print(Text.assemble((finding.severity, style), "  ", str(finding)))
        console.print(Text(f"{errors} errors, {len(findings) - errors} warnings in {recipe}"))
    if errors:
        raise typer.Exit(2)
