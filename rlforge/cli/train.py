"""`rlforge train` and `rlforge eval`."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlforge.cli.output import AsJson, Overrides, messages, print_json
from rlforge.errors import ConfigError, RlforgeError, RunError

if TYPE_CHECKING:
    from rlforge.cli.watch import Display, Lines
    from rlforge.recipe.document import Recipe
    from rlforge.recipe.findings import Finding
    from rlforge.runlog.folder import RunFolder

Stage = Annotated[str | None, typer.Option("--stage", help="Only the stage of this name.")]


def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="The recipe to run.")] = None,
    overrides: Overrides = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run.")] = None,
    stage: Stage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="A tiny random model instead, two real steps a stage.")
    ] = False,
    runs_dir: Annotated[
        str | None, typer.Option("--runs-dir", help="Folder of the run folders; else the recipe's, else ./runs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe, or go on with a run that was stopped."""
    # the recipe loads every part it names; `rlforge --help` loads none
    from rlforge.cli.watch import Log

    if resume:
        beside = [*([str(recipe)] if recipe else []), *(overrides or ()), *(["--dry-run"] if dry_run else [])]
        folder, plan = _resumed(resume, runs_dir or "runs", beside, stage)
    else:
        placed = [f"runs_dir={runs_dir}"] if runs_dir else []
        folder, plan = _created(recipe, [*(overrides or ()), *placed], dry_run, stage)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # theirs would write through ours
    progress = _progress(folder, as_json)
    try:
        result = asyncio.run(_trained(plan, folder, progress, stage))
    except KeyboardInterrupt as error:
        folder.events.append("interrupted", "ended at once, in the middle of a step")
        _tell_how_to_go_on(folder)
        raise typer.Exit(130) from error
    except BaseException as error:
        Log(folder.log_path)("".join(traceback.format_exception(error)))
        folder.events.append("failed", f"{type(error).__name__}: {error}")
        if isinstance(error, RlforgeError):
            _tell_how_to_go_on(folder)
        raise
    finally:
        folder.close()
        progress.close()
    if as_json:
        print_json(asdict(result))
    if result.interrupted:
        raise typer.Exit(130)


def evaluate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE_OR_RUN", help="A recipe, or a run folder.")],
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model folder, or a checkpoint of the run: sft/final.")
    ] = None,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe's evaluations on a model without training it."""
    from rlforge.cli.watch import evaluation_text
    from rlforge.recipe.load import load_recipe
    from rlforge.run.evaluate import evaluate as run_evaluate

    plan, folder = load_recipe(recipe, overrides or ()), _model(recipe, model)
    measured = asyncio.run(run_evaluate(plan, model=folder, stage=stage, tell=_warn))
    if as_json:
        metrics = {name: evaluation.metrics for name, evaluation in measured.items()}
        tasks = {name: [asdict(result) for result in found.results] for name, found in measured.items()}
        print_json({"recipe": str(recipe), "model": model, "evaluations": metrics, "tasks": tasks})
        return
    for name, evaluation in measured.items():
        print(f"{name}: {evaluation_text(evaluation.metrics)}")


async def _trained(recipe: Recipe, folder: RunFolder, progress: Display | Lines, stage: str | None) -> Any:
    from rlforge.run.train import train as run_train

    return await run_train(recipe, folder=folder, progress=progress, only_stage=stage)


def _created(recipe: Path | None, overrides: list[str], dry: bool, stage: str | None) -> tuple[RunFolder, Recipe]:
    from rlforge.recipe.check import check_document
    from rlforge.recipe.dry_run import dry_run
    from rlforge.recipe.load import read_document
    from rlforge.run.stages import chosen_stages
    from rlforge.runlog.folder import RunFolder

    if recipe is None:
        raise ConfigError("there is nothing to train: name a recipe, or a run to go on with (--resume RUN)")
    document = read_document(recipe, overrides)
    chosen_stages(document.recipe(), stage)
    _refuse(check_document(document))
    plan = dry_run(document.recipe()) if dry else document.recipe()
    return RunFolder.create(_free_name(Path(plan.runs_dir), plan.name), plan.yaml()), plan


def _refuse(findings: list[Finding]) -> None:
    """Tell warnings; raise ConfigError on errors."""
    for finding in findings:
        if finding.severity == "warning":
            _warn(str(finding))
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise ConfigError("\n".join(errors))


def _tell_how_to_go_on(folder: RunFolder) -> None:
    """On one line, so that the command can be copied."""
    told = f"run: {folder.path}  (go on with: rlforge train --resume {folder.path})"
    messages().print(told, markup=False, soft_wrap=True)


def _warn(said: str) -> None:
    messages().print(f"warning: {said}", markup=False, soft_wrap=True)


def _resumed(run: str, runs_dir: str, beside: list[str], stage: str | None) -> tuple[RunFolder, Recipe]:
    from rlforge.cli.runs import find_run
    from rlforge.recipe.load import load_recipe
    from rlforge.run.stages import chosen_stages
    from rlforge.runlog.folder import RunFolder

    if beside:
        raise ConfigError(f"--resume {run}: a run goes on with the recipe it began with; leave out {', '.join(beside)}")
    path = find_run(run, runs_dir)
    plan = load_recipe(RunFolder.open(path).recipe_path)
    chosen_stages(plan, stage)
    return RunFolder.resume(path), plan


def _free_name(runs: Path, name: str) -> Path:
    """`name`, or `name-2` and so on where there is such a run."""
    numbered = (runs / f"{name}-{number}" for number in range(2, sys.maxsize))
    first = runs / name
    return first if not first.exists() else next(path for path in numbered if not path.exists())


def _progress(folder: RunFolder, as_json: bool) -> Display | Lines:
    """Live on a terminal, plain lines elsewhere; never on stdout beside `--json`."""
    from rlforge.cli.output import results
    from rlforge.cli.watch import Display, Lines, Log

    console = messages() if as_json else results()
    if console.is_terminal:
        return Display(console, Log(folder.log_path))
    return Lines(Log(folder.log_path), lambda line: print(line, file=console.file, flush=True))


def _model(recipe: Path, model: str | None) -> str | None:
    """A checkpoint of the run where `recipe` is one, else as it stands."""
    from rlforge.model_folder import is_model_folder
    from rlforge.runlog.folder import RunFolder

    if not (recipe / "run.json").is_file() or (model and is_model_folder(model)):
        return model
    folder = RunFolder.open(recipe)
    return str(folder.resolve(model or _last_trained(folder)).path)


def _last_trained(folder: RunFolder) -> str:
    """The last stage of a run's recipe that has a checkpoint."""
    from rlforge.recipe.load import load_recipe

    stages = [stage.name for stage in load_recipe(folder.recipe_path).stage_list if folder.latest(stage.name)]
    if not stages:
        raise RunError(f"{folder.path} has no checkpoint yet; name a model with --model FOLDER")
    return stages[-1]
