"""Rules about where stages start."""

from __future__ import annotations

from collections.abc import Iterator

from rlforge.learner.schedule import anneal_start
from rlforge.loops.stage import StageConfig
from rlforge.model_folder import is_model_folder
from rlforge.recipe.findings import Case, Finding
from rlforge.registry import suggest
from rlforge.runlog.checkpoints import step_named

_MARKS = ("final", "best", "before_anneal")


def starts_exist(case: Case) -> Iterator[Finding]:
    """A stage starts from an earlier stage, a checkpoint or a model folder."""
    names = [stage.name for stage in case.recipe.stage_list]
    for index, stage in enumerate(case.recipe.stage_list):
        start = stage.start_from
        if start is None or start.partition("/")[0] in names[:index] or is_model_folder(start):
            continue
        known = ", ".join(f"{name}/final" for name in names[:index]) or "none before this one"
        yield Finding(
            severity="error",
            key=f"stages.{stage.name}.start_from",
            message=f"'{start}' is neither a stage before this one nor a model folder. "
            f"{suggest(start.partition('/')[0], names[:index])}Stages: {known}",
        )


def starts_are_written(case: Case) -> Iterator[Finding]:
    """What a stage starts from is a step that the earlier one takes, or a mark that it sets."""
    earlier: dict[str, StageConfig] = {}
    for stage in case.recipe.stage_list:
        name, _, which = (stage.start_from or "").partition("/")
        if name in earlier and which:
            message = _why_not(earlier[name], which)
            key, hint = f"stages.{stage.name}.start_from", f"{name}/final"
            if message:
                yield Finding(severity="error", key=key, message=message, hint=hint)
            elif which != "final" and earlier[name].stop_when:
                message = f"stop_when may end stage '{name}' before there is a checkpoint '{stage.start_from}'"
                yield Finding(severity="warning", key=key, message=message, hint=hint)
        earlier[stage.name] = stage


def _why_not(stage: StageConfig, which: str) -> str:
    """Why a stage never has a checkpoint of that name; empty when it has."""
    step = step_named(which)
    if step is not None:
        within = 1 <= step <= stage.steps
        return "" if within else f"stage '{stage.name}' takes steps 1 to {stage.steps}, so none is called '{which}'"
    if which == "best" and not stage.evaluations:
        return f"stage '{stage.name}' has no evaluations to find its best checkpoint by"
    if which == "before_anneal" and not 0 < anneal_start(stage.learner.schedule, stage.steps) < stage.steps:
        return f"stage '{stage.name}' takes no step before an anneal"
    known = f"{', '.join(_MARKS)}, step_{stage.steps:06d}"
    return "" if which in _MARKS else f"no checkpoint is called '{which}'. {suggest(which, _MARKS)}Known: {known}"


START_RULES = (starts_exist, starts_are_written)
"""Rules of this file."""
