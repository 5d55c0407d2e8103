"""Names to classes. Entries are strings, so naming a part imports nothing until it is built."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from rlforge.errors import ConfigError


def suggest(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'grpo'? ` when something is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean '{near[0]}'? " if near else ""


def import_object(path: str, what: str) -> Any:
    """Import `package.module:name`. Raises ConfigError that says which half is missing."""
    module_name, _, attribute = path.partition(":")
    if not attribute:
        raise ConfigError(f"{what} '{path}' does not say what to import; write it as package.module:name")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{what} '{path}': cannot import module '{module_name}': {error}") from error
    if not hasattr(module, attribute):
        hint = suggest(attribute, vars(module))
        raise ConfigError(f"{what} '{path}': module '{module_name}' has no '{attribute}'. {hint}".rstrip())
    return getattr(module, attribute)


class Registry:
    """One kind of part: a recipe names an entry, `module:Class`, or an entry point of group `rlforge.<kind>`."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def names(self) -> list[str]:
        """Registered names, entry points included, sorted."""
        return sorted({*self._entries, *(point.name for point in self._points())})

    def load(self, name: str) -> Any:
        """The class behind a name. Raises ConfigError with a suggestion when there is none."""
        if ":" in name:
            return import_object(name, self.kind)
        if name in self._entries:
            return import_object(self._entries[name], self.kind)
        for point in self._points():
            if point.name == name:
                return point.load()
        known = ", ".join(self.names())
        raise ConfigError(f"unknown {self.kind} '{name}'. {suggest(name, self.names())}Known: {known}")

    def _points(self) -> list[Any]:
        return list(entry_points(group=f"rlforge.{self.kind.replace(' ', '_')}"))


ALGORITHMS = Registry(
    "algorithm",
    {"grpo": "rlforge.algorithms.grpo:GRPO", "rloo": "rlforge.algorithms.rloo:RLOO"},
)
GENERATORS = Registry(
    "generator",
    {
        "scripted": "rlforge.generators.scripted:ScriptedGenerator",
        "transformers": "rlforge.generators.transformers:TransformersGenerator",
        "vllm": "rlforge.generators.vllm:VLLMGenerator",
    },
)
ORCHESTRATORS = Registry(
    "orchestrator",
    {
        "environment_loop": "rlforge.orchestrators.environment_loop:EnvironmentLoop",
        "single_turn": "rlforge.orchestrators.single_turn:SingleTurn",
    },
)
SCORERS = Registry(
    "scorer",
    {
        "environment": "rlforge.rewards.environment:EnvironmentScorer",
        "grpc": "rlforge.rewards.remote.scorer:RemoteScorer",
        "http": "rlforge.rewards.remote.scorer:RemoteScorer",
        "judge": "rlforge.rewards.judge.scorer:JudgeScorer",
        "python": "rlforge.rewards.python.scorer:PythonScorer",
        "reasoning_gym": "rlforge.rewards.reasoning_gym:ReasoningGymScorer",
        "regex": "rlforge.rewards.regex:RegexScorer",
        "unit_tests": "rlforge.rewards.unit_tests:UnitTestsScorer",
    },
)
SOURCES = Registry(
    "source",
    {
        "environment": "rlforge.data.environment:EnvironmentSource",
        "jsonl": "rlforge.data.jsonl:JsonlSource",
        "python": "rlforge.data.python:PythonSource",
        "reasoning_gym": "rlforge.data.reasoning_gym:ReasoningGymSource",
        "text": "rlforge.data.text:TextSource",
    },
)
TOOL_FORMATS = Registry("tool format", {"hermes": "rlforge.tokens.tool_calls.hermes:Hermes"})
TRANSPORTS = Registry(
    "transport",
    {
        "grpc": "rlforge.transports.grpc:Grpc",
        "grpcs": "rlforge.transports.grpc:Grpc",
        "http": "rlforge.transports.http:Http",
        "https": "rlforge.transports.http:Http",
        "python": "rlforge.transports.in_process:InProcess",
    },
)
WEIGHT_CHANNELS = Registry("weight channel", {"shared_memory": "rlforge.weights.shared_memory:SharedMemoryChannel"})
CLUSTERS = Registry(
    "cluster", {"in_process": "rlforge.cluster.in_process:InProcess", "ray": "rlforge.cluster.on_ray:OnRay"}
)
STAGES = Registry(
    "stage",
    {
        "pretrain": "rlforge.loops.sft:SFTConfig",
        "rl": "rlforge.loops.rl:RLConfig",
        "sft": "rlforge.loops.sft:SFTConfig",
    },
)
