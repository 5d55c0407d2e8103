"""What a run shows while it works: live on a terminal, the same as plain lines everywhere else and in run.log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlforge.cli.sparkline import sparkline
from rlforge.config import BaseConfig, PartConfig
from rlforge.recipe.document import Recipe
from rlforge.runlog.progress import RunResult


class Log:
    """Writes lines to run.log, each with the time of day."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


class Lines:
    """One plain line for everything that happens."""

    def __init__(self, *writers: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._writers = writers
        self._clock = clock
        self.stage_name = ""
        self.steps = 0
        self.done = 0
        self.curve: list[float] = []
        """Mean reward per step of the stage, or its loss where there are no rewards."""
        self.last = ""
        self.accuracy: list[str] = []
        """Of the last evaluation, as text; empty before the first."""
        self._began = clock()
        self._first_done = 0
        self._previous = clock()

    def plan(self, recipe: BaseConfig) -> None:
        """Say what will be done."""
        assert isinstance(recipe, Recipe)
        for line in plan_lines(recipe):
            self._say(line)

    def stage(self, name: str, kind: str, steps: int) -> None:
        """Begin a stage."""
        self.stage_name, self.steps, self.done, self.curve, self.last = name, steps, 0, [], ""
        self.accuracy = []
        self._began = self._previous = self._clock()
        self._first_done = -1
        self._say(f"stage {name} ({kind}): {steps} steps")

    def step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Tell of a step."""
        if self._first_done < 0:
            self._first_done, self._began = step - 1, self._previous
        self._previous = self._clock()
        self.done = step
        self.curve.append(metrics.get("reward/mean", metrics.get("learner/loss", math.nan)))
        self.last = "  ".join([*_measured(metrics), *self.accuracy, f"{_duration(self.left)} left"])
        self._say(f"{stage} {step}/{self.steps}  {sparkline(self.curve)}  {self.last}")

    def evaluation(self, stage: str, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """Tell of an evaluation."""
        found = [value for key, value in metrics.items() if key.endswith("/accuracy")]
        self.accuracy = [f"accuracy {value:.3f}" for value in found[:1]] or self.accuracy
        self._say(f"{stage} {step}/{self.steps}  evaluation {name}: {evaluation_text(metrics)}")

    def finish(self, result: RunResult) -> None:
        """Say how it ended, where it is, and what to type next."""
        console = Console(width=110, no_color=True, highlight=False)
        with console.capture() as captured:
            console.print(result_table(result))
        for line in captured.get().rstrip().splitlines():
            self._say(line.rstrip())
        for line in closing_lines(result):
            self._say(line)

    def close(self) -> None:
        """Nothing is held; `Display` holds the terminal."""

    @property
    def left(self) -> float:
        """Seconds that the stage will still take at the mean pace so far."""
        done = self.done - self._first_done
        return (self._clock() - self._began) / done * (self.steps - self.done) if done > 0 else math.nan

    def _say(self, line: str) -> None:
        for write in self._writers:
            write(line)


class Display:
    """A live display on a terminal; what `Lines` says goes to the log alone."""

    def __init__(self, console: Console, log: Callable[[str], object]) -> None:
        self._console = console
        self._lines = Lines(log)
        self._live: Live | None = None

    def plan(self, recipe: BaseConfig) -> None:
        """Show the plan."""
        assert isinstance(recipe, Recipe)
        self._lines.plan(recipe)
        for line in plan_lines(recipe):
            self._console.print(Text(line))

    def stage(self, name: str, kind: str, steps: int) -> None:
        """Begin a line of its own for the stage."""
        self._freeze()
        self._lines.stage(name, kind, steps)
        self._live = Live(self._view(), console=self._console, refresh_per_second=4, redirect_stderr=False)
        self._live.start()

    def step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Move the bar."""
        self._lines.step(stage, step, metrics)
        self._refresh()

    def evaluation(self, stage: str, step: int, name: str, metrics: Mapping[str, float]) -> None:
        """Leave a line above the bar."""
        self._lines.evaluation(stage, step, name, metrics)
        self._console.print(Text(f"  {name} at step {step}: {evaluation_text(metrics)}", style="cyan"))

    def finish(self, result: RunResult) -> None:
        """Show before and after, and what to type next."""
        self._freeze()
        self._lines.finish(result)
        self._console.print(result_table(result))
        for line in closing_lines(result):
            self._console.print(Text(line))

    def close(self) -> None:
        """Give the terminal back; may be called twice."""
        self._freeze()

    def _freeze(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _refresh(self) -> None:
        if self._live:
            self._live.update(self._view())

    def _view(self) -> RenderableType:
        lines = self._lines
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, lines.steps), completed=lines.done, width=24)
        row.add_row(Text(lines.stage_name, style="bold"), bar, Text(f"{lines.done}/{lines.steps}"))
        return Group(row, Text(f"  {sparkline(lines.curve, 48)}", style="green"), Text(f"  {lines.last}"))


def plan_lines(recipe: Recipe) -> list[str]:
    """The recipe in a few lines."""
    model = recipe.model
    start = model.path or (f"{model.init.architecture} from scratch" if model.init else "")
    generators = ", ".join(f"{name}: {config.type}" for name, config in recipe.generators.items())
    lines = [f"{recipe.name}: {start}; {generators}; on {recipe.cluster.type}; seed {recipe.seed}"]
    for number, stage in enumerate(recipe.stage_list, 1):
        sources = ", ".join(_source_name(source) for source in stage.data)
        size = getattr(stage, "group_size", None)
        step = f"{getattr(stage, 'groups_per_step', 0)} x {size} rollouts" if size else "a batch"
        algorithm = getattr(stage, "algorithm", None)
        by = f" by {algorithm.type}" if algorithm else ""
        lines.append(f"  {number}. {stage.name}: {stage.type}{by}, {stage.steps} steps of {step}, data: {sources}")
    return lines


def _source_name(source: PartConfig) -> str:
    told = (getattr(source, key, None) for key in ("name", "dataset", "function", "path"))
    return Path(next((str(name) for name in told if name), source.type)).name


def evaluation_text(metrics: Mapping[str, float]) -> str:
    """Accuracy with its interval, whatever pass@k there is, and how many attempts have no reward, if any."""
    short = {key.rpartition("/")[2]: value for key, value in metrics.items()}
    told: list[str] = []
    for name in (
        "accuracy",
        "reward_mean",
        *sorted(key for key in short if key.startswith("pass_at_") and key[8:].isdecimal()),
    ):
        if name in short:
            interval = f" [{short[f'{name}_low']:.3f}, {short[f'{name}_high']:.3f}]" if f"{name}_low" in short else ""
            told.append(f"{name.replace('_', ' ')} {short[name]:.3f}{interval}")
    told = told or ["nothing was scored"]
    if short.get("unscored_share", 0) > 0:
        told.append(f"unscored {short['unscored_share']:.0%}")
    return ", ".join(told)


def result_table(result: RunResult) -> Table:
    """Before -> after per stage."""
    table = Table(title=None, show_edge=False, pad_edge=False)
    for column in ("stage", "steps", "measured", "before", "after", "time"):
        table.add_column(column)
    for stage in result.stages:
        keys = [key for key in stage.after if key.endswith("/accuracy")] or [None]
        for number, key in enumerate(keys):
            first = (
                (f"{stage.name} ({stage.type})", str(stage.steps), _duration(stage.seconds))
                if not number
                else ("",) * 3
            )
            before = f"{stage.before[key]:.3f}" if key and key in stage.before else "-"
            after = f"{stage.after[key]:.3f}" if key else "-"
            table.add_row(first[0], first[1], key or "-", before, after, first[2])
    return table


def closing_lines(result: RunResult) -> list[str]:
    """Where the run is, and the next command."""
    lines = [f"{stage.name} ended early: {stage.stopped_by}" for stage in result.stages if stage.stopped_by]
    lines.append(f"run: {result.run} ({_duration(result.seconds)})")
    if result.interrupted:
        return [*lines, f"interrupted; go on with: rlforge train --resume {result.run}"]
    learned = [stage.name for stage in result.stages if stage.type == "rl"]
    if learned:
        return [*lines, f"next: rlforge runs rollouts {result.run} --stage {learned[-1]} --worst 3"]
    return [*lines, f"next: rlforge runs show {result.run}"]


def _measured(metrics: Mapping[str, float]) -> list[str]:
    told: list[str] = []
    if "reward/mean" in metrics:
        told.append(f"reward {metrics['reward/mean']:.3f}")
    if "learner/loss" in metrics:
        told.append(f"loss {metrics['learner/loss']:.4f}")
    tokens = metrics.get("length/total_tokens", metrics.get("learner/tokens"))
    seconds = metrics.get("time/step_s", 0.0)
    if tokens and seconds:
        told.append(f"{tokens / seconds:,.0f} tokens/s")
    if metrics.get("rollouts/unscored_share", 0) > 0:
        told.append(f"unscored {metrics['rollouts/unscored_share']:.0%}")
    if metrics.get("groups/zero_signal", 0) == metrics.get("groups/count"):
        told.append("no signal")
    return told


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
