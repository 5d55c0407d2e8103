"""`rlforge runs list | show | rollouts`: read run folders, finished or going on."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rlforge.cli.output import AsJson, RunsFolder, print_json, results
from rlforge.cli.sparkline import sparkline
from rlforge.errors import RunError
from rlforge.registry import suggest

if TYPE_CHECKING:
    from rlforge.runlog.folder import RunFolder
    from rlforge.types import Message, Rollout, Turn

app = typer.Typer(help="Read run folders.", no_args_is_help=True)
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its name in the runs folder.")]
Stage = Annotated[str | None, typer.Option("--stage", help="Stage; the last that has any if left out.")]


def find_run(run: str, runs_dir: str) -> Path:
    """The folder of a run given by path or by name. Raises RunError with a suggestion."""
    for path in (Path(run), Path(runs_dir) / run):
        if (path / "run.json").is_file():
            return path
    known = [path.parent.name for path in Path(runs_dir).glob("*/run.json")]
    raise RunError(
        f"there is no run '{run}'. {suggest(run, known)}Known in {runs_dir}: {', '.join(sorted(known)) or 'none'}"
    )


@app.command("list")
def list_runs(runs_dir: RunsFolder = "runs", as_json: AsJson = False) -> None:
    """All runs, newest first."""
    # the run folder brings pyarrow
    from rlforge.runlog.folder import RunFolder

    folders = [RunFolder.open(path.parent) for path in Path(runs_dir).glob("*/run.json")]
    rows = [_summary(folder) for folder in sorted(folders, key=lambda folder: -folder.created)]
    if as_json:
        print_json({"runs": rows})
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in ("run", "status", "began", "stage", "step", "reward", "accuracy"):
        table.add_column(column)
    for row in rows:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"]))
        numbers = [_number(row["reward"]), _number(row["accuracy"])]
        table.add_row(row["name"], row["status"], began, row["stage"] or "-", str(row["step"]), *numbers)
    results().print(table if rows else Text(f"no runs in {runs_dir}; start one with: rlforge train RECIPE"))


@app.command("show")
def show(run: Run, runs_dir: RunsFolder = "runs", as_json: AsJson = False) -> None:
    """One run: its stages with curves, evaluations, checkpoints, and what went wrong."""
    from rlforge.runlog.folder import RunFolder

    folder = RunFolder.open(find_run(run, runs_dir))
    details = {**_summary(folder), "stages": [_stage(folder, name) for name in _stage_names(folder)]}
    events = [asdict(event) for event in folder.events.read()]
    if as_json:
        print_json({**details, "events": events})
        return
    console = results()
    console.print(Text(f"{details['name']}: {details['status']}, {details['path']}", style="bold"))
    if doing := _doing(folder):
        console.print(Text(f"  {doing}"))
    for stage in details["stages"]:
        console.print(Text(f"  {stage['name']}: {stage['steps']} steps, {_told(stage['latest'])}"))
        if stage["curve"]:
            console.print(Text(f"    {sparkline(stage['curve'], 60)}", style="green"))
        for key, values in stage["accuracy"].items():
            console.print(Text(f"    {key}: {values[0]:.3f} -> {values[-1]:.3f}"))
        console.print(Text(f"    checkpoints: {', '.join(stage['checkpoints']) or 'none'}"))
    for event in events[-10:]:
        clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
        console.print(Text(f"  {clock} {event['kind']}: {event['message']}", style="dim"))


@app.command("rollouts")
def rollouts(
    run: Run,
    stage: Stage = None,
    step: Annotated[int | None, typer.Option("--step", help="Step; the last one if left out.")] = None,
    worst: Annotated[int | None, typer.Option("--worst", min=1, help="The so many of lowest reward.")] = None,
    best: Annotated[int | None, typer.Option("--best", min=1, help="The so many of highest reward.")] = None,
    unscored: Annotated[bool, typer.Option("--unscored", help="Only those without a reward.")] = False,
    runs_dir: RunsFolder = "runs",
    as_json: AsJson = False,
) -> None:
    """Conversations of a step with their scores and reasons."""
    from rlforge.runlog.folder import RunFolder

    folder = RunFolder.open(find_run(run, runs_dir))
    name, number = _step_with_rollouts(folder, stage, step)
    chosen = _chosen(folder.rollouts(name, number), worst, best, unscored)
    if as_json:
        print_json({"run": str(folder.path), "stage": name, "step": number, "rollouts": [_plain(r) for r in chosen]})
        return
    console = results()
    console.print(Text(f"{folder.name}, {name} step {number}: {len(chosen)} rollouts", style="bold"))
    for rollout in chosen:
        _print_rollout(rollout)


def _summary(folder: RunFolder) -> dict[str, Any]:
    records = folder.metrics.records()
    told = [pair for record in (*records, *folder.metrics.evaluations()) for pair in record.metrics.items()]
    accuracy = [value for key, value in told if key.endswith("/accuracy")]
    return {
        "name": folder.name,
        "path": str(folder.path),
        "status": folder.status,
        "created": folder.created,
        "stage": records[-1].stage if records else None,
        "step": records[-1].step if records else 0,
        "reward": dict(told).get("reward/mean"),
        "accuracy": accuracy[-1] if accuracy else None,
    }


def _doing(folder: RunFolder) -> str:
    """What goes on now, or went on when the run was killed; nothing for a run that ended by itself."""
    now = folder.activity.read()
    if now is None or folder.status not in ("running", "stopped"):
        return ""
    place = f"{now.doing}, step {now.step} of '{now.stage}'"
    return f"now: {place}, for {time.time() - now.since:.0f} s" if folder.status == "running" else f"ended in: {place}"


def _stage_names(folder: RunFolder) -> list[str]:
    return list(dict.fromkeys(record.stage for record in folder.metrics.records()))


def _stage(folder: RunFolder, name: str) -> dict[str, Any]:
    records = folder.metrics.records(name)
    curve = [record.metrics.get("reward/mean", record.metrics.get("learner/loss")) for record in records]
    accuracy: dict[str, list[float]] = {}
    for record in sorted((*records, *folder.metrics.evaluations(name)), key=lambda record: record.step):
        for key, value in record.metrics.items():
            if key.endswith("/accuracy"):
                accuracy.setdefault(key, []).append(value)
    return {
        "name": name,
        "steps": records[-1].step,
        "latest": records[-1].metrics,
        "curve": [value for value in curve if value is not None],
        "accuracy": accuracy,
        "checkpoints": [checkpoint.path.name for checkpoint in folder.checkpoints.list(name)],
    }


def _told(metrics: dict[str, float]) -> str:
    shown = ("reward/mean", "learner/loss", "length/mean_tokens", "policy/entropy", "time/step_s")
    return ", ".join(f"{key} {metrics[key]:.4g}" for key in shown if key in metrics) or "nothing measured yet"


def _step_with_rollouts(folder: RunFolder, stage: str | None, step: int | None) -> tuple[str, int]:
    kept = [name for name in _stage_names(folder) if folder.rollout_steps(name)]
    stages = [name for name in kept if stage in (None, name)]
    if not stages:
        others = f". {suggest(stage or '', kept)}Stages with rollouts: {', '.join(kept)}" if kept else " (yet)"
        raise RunError(f"{folder.path} keeps no rollouts{f' of stage {stage!r}' if stage else ''}{others}")
    steps = folder.rollout_steps(stages[-1])
    if step is not None and step not in steps:
        raise RunError(f"stage '{stages[-1]}' keeps no rollouts of step {step}; it has steps {steps[0]} to {steps[-1]}")
    return stages[-1], steps[-1] if step is None else step


def _chosen(every: list[Rollout], worst: int | None, best: int | None, unscored: bool) -> list[Rollout]:
    if unscored:
        return [rollout for rollout in every if not rollout.scored]
    if worst is None and best is None:
        return every
    ranked = sorted((rollout for rollout in every if rollout.scored), key=_reward)
    return [*ranked[: worst or 0], *ranked[::-1][: best or 0]]


def _reward(rollout: Rollout) -> float:
    assert rollout.reward is not None
    assert rollout.reward.value is not None
    return rollout.reward.value


def _plain(rollout: Rollout) -> dict[str, Any]:
    reward = rollout.reward
    return {
        "id": rollout.id,
        "task": rollout.task.id,
        "answer": rollout.task.answer,
        "prompt": [{"role": message.role, "text": message.text} for message in _shown_first(rollout)],
        "replies": [turn.message.text for turn in rollout.turns],
        "turns": [_plain_turn(turn) for turn in rollout.turns],
        "stop_reason": rollout.stop_reason.value,
        "error": rollout.error,
        "reward": reward.value if reward else None,
        "reason": reward.reason if reward else "",
        "scores": [asdict(score) for score in reward.scores] if reward else [],
        "children": [_plain(child) for child in rollout.children],
    }


def _shown_first(rollout: Rollout) -> tuple[Message, ...]:
    return (*rollout.task.messages, *rollout.opening)


def _plain_turn(turn: Turn) -> dict[str, Any]:
    return {
        "reply": turn.message.text,
        "tool_calls": [asdict(call) for call in turn.message.tool_calls],
        "observation": [{"role": message.role, "text": message.text} for message in turn.observation],
        "reward": turn.reward,
        "components": dict(turn.components),
        "info": dict(turn.info),
    }


def _print_rollout(rollout: Rollout) -> None:
    console = results()
    reward = rollout.reward
    value = "unscored" if reward is None or reward.value is None else f"{reward.value:g}"
    console.rule(Text(f"{rollout.id}  reward {value}  {rollout.stop_reason.value}"), align="left", style="dim")
    for message in _shown_first(rollout):
        _print_message(message)
    for turn in rollout.turns:
        _print_turn(turn)
    if rollout.task.answer is not None:
        console.print(Text.assemble(("answer     ", "bold"), str(rollout.task.answer)))
    for score in reward.scores if reward else ():
        told = f"{score.value:g}" if score.value is not None else f"unscored ({score.error_kind})"
        console.print(Text.assemble((f"{score.scorer}  ", "bold magenta"), told, f"  {score.reason}".rstrip()))
        if score.output:
            console.print(Text(f"  printed: {score.output}", style="dim"))
    for why in filter(None, (reward.reason if reward else "", rollout.error)):
        console.print(Text(why, style="red"))
    for child in rollout.children:
        _print_rollout(child)


def _print_turn(turn: Turn) -> None:
    console = results()
    console.print(Text.assemble(("assistant  ", "bold green"), turn.message.text))
    for call in turn.message.tool_calls:
        console.print(Text.assemble(("calls      ", "bold green"), f"{call.name} {call.arguments}"))
    for message in turn.observation:
        _print_message(message)
    earned = [] if turn.reward is None else [f"reward {turn.reward:g}"]
    earned += [f"{name} {value:g}" for name, value in turn.components.items()]
    earned += [f"{name} {value}" for name, value in turn.info.items()]
    if earned:
        console.print(Text(f"  {', '.join(earned)}", style="dim"))


def _print_message(message: Message) -> None:
    results().print(Text.assemble((f"{message.role:<9}  ", "bold"), message.text))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
