"""Rules across the keys of a recipe, one function each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlforge.data.text import TextSource
from rlforge.errors import ConfigError
from rlforge.loops.sft import SFTConfig
from rlforge.model_folder import is_model_folder
from rlforge.recipe.findings import Case, Finding, Rule, UsedSource
from rlforge.registry import ALGORITHMS, suggest
from rlforge.rewards.python.scorer import PythonScorer, check_function

_CHARACTERS_PER_TOKEN = 4
"""Of a tokenizer with many tokens; others make more sequences."""
_MANY_SEQUENCES = 16
"""More of them from one document than this are hardly what anybody means by one step's share."""


def group_size_fits_algorithm(case: Case) -> Iterator[Finding]:
    """A group baseline needs a group."""
    for stage in case.rl_stages:
        needed = int(getattr(ALGORITHMS.load(stage.algorithm.type), "min_group_size", 1))
        if stage.group_size < needed:
            yield Finding(
                severity="error",
                key=f"stages.{stage.name}.group_size",
                message=f"group_size={stage.group_size} gives every rollout zero advantage "
                f"under {stage.algorithm.type}",
                hint=f"group_size >= {needed}",
            )


def training_samples(case: Case) -> Iterator[Finding]:
    """Identical members of a group teach nothing."""
    for stage in case.rl_stages:
        sampling = stage.sampling
        if sampling.temperature == 0 or sampling.top_k == 1:
            name, value = ("temperature", 0) if sampling.temperature == 0 else ("top_k", 1)
            yield Finding(
                severity="error",
                key=f"stages.{stage.name}.sampling.{name}",
                message=f"{name}={value} samples the same reply for every member of a group: no advantage, no learning",
                hint="temperature 1 and top_k 0 in training; evaluations are greedy anyway",
            )


def importance_weights_see_the_whole_distribution(case: Case) -> Iterator[Finding]:
    """Under truncated sampling the generator's logprobs are renormalised and the learner's are not."""
    for stage in case.rl_stages:
        sampling = stage.sampling
        cut = "top_p" if sampling.top_p < 1 else "top_k" if sampling.top_k > 1 else None
        if cut:
            weighs = hasattr(stage.algorithm, "correction")
            yield Finding(
                severity="error" if weighs else "warning",
                key=f"stages.{stage.name}.sampling.{cut}",
                message=f"{cut}={getattr(sampling, cut)} cuts the tail off: the generator's logprobs are of another "
                f"distribution than the learner's, so every importance weight of {stage.algorithm.type} is off",
                hint="top_p 1 and top_k 0 in training",
            )


def completions_fit_context(case: Case) -> Iterator[Finding]:
    """A prompt needs room beside the completion."""
    context = case.context
    if context is None:
        return
    longest = {
        f"stages.{stage.name}.sampling.max_new_tokens": stage.sampling.max_new_tokens for stage in case.rl_stages
    }
    for stage in case.recipe.stage_list:
        for number, evaluation in enumerate(stage.evaluations):
            reply = evaluation.play(stage.play).max_new_tokens
            longest[f"stages.{stage.name}.evaluations.{number}.max_new_tokens"] = reply
    for key, tokens in longest.items():
        if tokens >= context:
            yield Finding(
                severity="error",
                key=key,
                message=f"max_new_tokens={tokens} leaves no room for a prompt in a context of {context} tokens",
                hint="fewer new tokens, or a longer context of model and generator",
            )


def sequences_fit_context(case: Case) -> Iterator[Finding]:
    """A model has no positions beyond its context."""
    limit = case.positions
    for stage in case.recipe.stage_list:
        if limit and isinstance(stage, SFTConfig) and stage.longest(limit) > limit:
            yield Finding(
                severity="error",
                key=f"stages.{stage.name}.max_tokens",
                message=f"max_tokens={stage.max_tokens} is longer than the model's context of {limit} tokens",
                hint=f"max_tokens <= {limit}",
            )


def documents_fit_a_step(case: Case) -> Iterator[Finding]:
    """A document is learned whole, in one step: a book is hundreds of sequences."""
    for used in case.sources:
        source, stage = used.source, used.stage
        if used.evaluation or not isinstance(stage, SFTConfig) or not isinstance(source, TextSource):
            continue
        tokens = stage.longest(case.positions)
        characters = max(len(source[index].text) for index in range(len(source)))
        sequences = characters // (_CHARACTERS_PER_TOKEN * tokens)
        if getattr(used.config, "separate", "") == "files" and sequences > _MANY_SEQUENCES:
            yield Finding(
                severity="warning",
                key=f"{used.key}.separate",
                message=f"its longest file has {characters} characters: {sequences} sequences of {tokens} tokens or "
                "more, all learned in one step, because batch_size counts documents",
                hint="separate: paragraphs, or lines",
            )


def groups_cover_batch(case: Case) -> Iterator[Finding]:
    """A step wants different tasks, and every worker a group."""
    for stage in case.rl_stages:
        used = [source for source in case.sources if source.stage is stage and not source.evaluation]
        tasks = sum(len(source.source) for source in used if source.source is not None)
        if all(source.source is not None for source in used) and tasks < stage.groups_per_step:
            yield Finding(
                severity="warning",
                key=f"stages.{stage.name}.groups_per_step",
                message=f"groups_per_step={stage.groups_per_step}, but there are {tasks} tasks: a step repeats tasks",
                hint="more tasks, or fewer groups",
            )
        if stage.groups_per_step < case.recipe.cluster.rollout_workers:
            workers = case.recipe.cluster.rollout_workers
            yield Finding(
                severity="warning",
                key=f"stages.{stage.name}.groups_per_step",
                message=f"groups_per_step={stage.groups_per_step} cannot cover {workers} rollout workers: "
                "some stay idle",
                hint=f"cluster.rollout_workers <= {stage.groups_per_step}",
            )


def sources_can_be_read(case: Case) -> Iterator[Finding]:
    """Files that are missing, rows that are broken, functions that do not import."""
    for used in case.sources:
        if used.source is None:
            yield Finding(severity=used.severity, key=used.key, message=used.error)


def sources_have_names_of_their_own(case: Case) -> Iterator[Finding]:
    """Ids begin with the name of a source: under one name two tasks would be one."""
    seen: dict[tuple[str, str], str] = {}
    for used in case.sources:
        if used.source is None:
            continue
        place = used.key.rpartition(".")[0]
        first = seen.setdefault((place, used.source.name), used.key)
        if first != used.key:
            yield Finding(
                severity="error",
                key=f"{used.key}.name",
                message=f"'{used.source.name}' is what {first} is called too, so their items could not be told apart",
                hint="a name for one of them",
            )


def sources_hold_what_the_stage_learns_from(case: Case) -> Iterator[Finding]:
    """rl and evaluations want tasks; sft conversations, or tasks whose answers it imitates; pretrain documents."""
    wanted = {"rl": ("tasks",), "sft": ("conversations", "tasks"), "pretrain": ("documents",)}
    for used in case.sources:
        kind = getattr(used.source, "kind", None)
        needed = ("tasks",) if used.evaluation else wanted.get(used.stage.type)
        if kind and needed and kind not in needed:
            what = "an evaluation" if used.evaluation else f"a stage of type {used.stage.type}"
            message = f"the source gives {kind}, but {what} needs {' or '.join(needed)}"
            yield Finding(severity="error", key=used.key, message=message)


def held_out_is_held_out(case: Case) -> Iterator[Finding]:
    """What is trained on measures nothing."""
    for used in case.sources:
        twins = (
            other
            for other in case.sources
            if used.evaluation
            and not other.evaluation
            and other.stage is used.stage
            and _content(other) == _content(used)
        )
        for twin in twins:
            yield Finding(
                severity="warning",
                key=used.key,
                message=f"the evaluation uses what {twin.key} trains on, so it does not measure new tasks",
                hint="splits: {train: 0.9, held_out: 0.1} and a split of its own for each",
            )


def evaluations_ask_every_source(case: Case) -> Iterator[Finding]:
    """An evaluation walks its sources one after another, up to its `limit`; nothing is mixed."""
    for stage in case.recipe.stage_list:
        for number, evaluation in enumerate(stage.evaluations):
            place = f"stages.{stage.name}.evaluations.{number}"
            used = [source for source in case.sources if source.key.startswith(f"{place}.data.")]
            yield from _ignored_weights(used)
            yield from _sources_beyond_the_limit(used, evaluation.limit, place)


def _ignored_weights(used: Sequence[UsedSource]) -> Iterator[Finding]:
    for source in used:
        if (weight := getattr(source.config, "weight", 1.0)) != 1.0:
            yield Finding(
                severity="warning",
                key=f"{source.key}.weight",
                message=f"weight={weight:g} does nothing: an evaluation walks its sources one after another",
                hint="limit, of each source",
            )


def _sources_beyond_the_limit(used: Sequence[UsedSource], limit: int, place: str) -> Iterator[Finding]:
    before = 0
    for source in used:
        if source.source is None:
            return
        if before >= limit:
            yield Finding(
                severity="warning",
                key=source.key,
                message=f"none of its tasks are asked: those of the sources before it use up limit={limit}",
                hint=f"a limit for each source, or a larger {place}.limit",
            )
        before += len(source.source)


def model_exists(case: Case) -> Iterator[Finding]:
    """A model folder has a config.json."""
    path = case.recipe.model.path
    if path and Path(path).is_absolute() and not is_model_folder(path):
        yield Finding(
            severity="error",
            key="model.path",
            message=f"'{path}' is no model folder in Hugging Face layout (no config.json)",
        )


def functions_import(case: Case) -> Iterator[Finding]:
    """A scorer's function is there and takes its options, found out in a process of its own as in training."""
    for key, scorer in case.scorers():
        if isinstance(scorer, PythonScorer.Config):
            try:
                check_function(scorer.model_copy(update={"workers": 1}))
            except ConfigError as error:
                yield Finding(severity="error", key=f"{key}.function", message=str(error))


def rewards_where_needed(case: Case) -> Iterator[Finding]:
    """No rewards, no learning from them and no accuracy."""
    for stage in case.recipe.stage_list:
        if case.rewards(stage) is None and (stage in case.rl_stages or stage.evaluations):
            what = "learns from rewards" if stage in case.rl_stages else "has evaluations"
            yield Finding(
                severity="error",
                key=f"stages.{stage.name}",
                message=f"stage '{stage.name}' {what}, but the recipe names no scorer",
                hint="rewards: {scorers: [{type: python, function: reward.py:reward}]}",
            )


def every_task_has_a_scorer(case: Case) -> Iterator[Finding]:
    """A task that no scorer judges stays unscored for ever."""
    for used in case.sources:
        rewards = case.rewards(used.stage)
        if used.source is None or rewards is None or (used.stage not in case.rl_stages and not used.evaluation):
            continue
        counting = [part for part in rewards.parts if part.weight != 0]
        if not any(not part.sources or used.source.name in part.sources for part in counting):
            yield Finding(
                severity="error",
                key=used.key,
                message=f"no scorer that counts judges tasks of source '{used.source.name}'",
                hint="add the name to a scorer's `sources`, or leave `sources` out to judge all",
            )


def scorers_name_sources_that_exist(case: Case) -> Iterator[Finding]:
    """A scorer for a source that is not there never speaks."""
    names = {used.source.name for used in case.sources if used.source is not None}
    for key, scorer in case.scorers():
        for name in scorer.sources:
            if name not in names:
                known = ", ".join(sorted(names)) or "none"
                message = f"no source is called '{name}'. {suggest(name, names)}Known: {known}"
                yield Finding(severity="warning", key=f"{key}.sources", message=message)


def stop_rules_can_fire(case: Case) -> Iterator[Finding]:
    """A rule on a metric that nobody measures never ends a stage."""
    for stage in case.recipe.stage_list:
        rule = stage.stop_when
        known = [
            f"eval/{evaluation.name}/{metric}" for evaluation in stage.evaluations for metric in _measured(evaluation)
        ]
        if rule and rule.metric not in known:
            yield Finding(
                severity="error",
                key=f"stages.{stage.name}.stop_when.metric",
                message=f"no evaluation of the stage gives '{rule.metric}'. {suggest(rule.metric, known)}"
                f"Known: {', '.join(known) or 'none'}",
            )


def _measured(evaluation: Any) -> list[str]:
    ks = [k for k in evaluation.pass_at if k <= evaluation.samples]
    return ["accuracy", "reward_mean", "unscored_share", *(f"pass_at_{k}" for k in ks)]


def _content(used: UsedSource) -> dict[str, Any]:
    """What decides which items a source gives; its name and weight do not."""
    data = used.config.model_dump(mode="json")
    return {key: value for key, value in data.items() if key not in ("name", "weight", "limit", "on_bad_row")}


RULES: tuple[Rule, ...] = (
    group_size_fits_algorithm,
    training_samples,
    importance_weights_see_the_whole_distribution,
    completions_fit_context,
    sequences_fit_context,
    documents_fit_a_step,
    groups_cover_batch,
    sources_can_be_read,
    sources_have_names_of_their_own,
    sources_hold_what_the_stage_learns_from,
    held_out_is_held_out,
    evaluations_ask_every_source,
    model_exists,
    functions_import,
    rewards_where_needed,
    every_task_has_a_scorer,
    scorers_name_sources_that_exist,
    stop_rules_can_fire,
)
"""Rules with no file of their own; the memory plan is in `machine.py`, where stages start in `starts.py`, who asks
generators in `generators.py`, what scorers read in `scorers.py`."""
