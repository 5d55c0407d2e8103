"""Loads a customer's reward function and calls it on rollouts, reporting start and outcome of each."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rlforge.errors import ConfigError, ExtensionError, boundary
from rlforge.registry import import_object, suggest
from rlforge.rewards.outcomes import Outcome, as_outcome, as_outcomes, describe, raised, unscored
from rlforge.rewards.prints import Printed, current
from rlforge.types import Rollout

Send: TypeAlias = Callable[[bytes], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Instructions:
    """What to run and within which limits; JSON values only."""

    function: str
    options: dict[str, Any]
    batch: bool
    timeout_s: float
    memory_bytes: int
    output_chars: int
    concurrency: int


def load_function(target: str) -> Callable[..., Any]:
    """The function behind `file.py:name` or `package.module:name`; its folder is put on the import path.

    Raises ConfigError when there is none, ExtensionError when its module raises.
    """
    place, _, name = target.rpartition(":")
    if not place.endswith(".py"):
        sys.path.append(os.getcwd())
        return import_object(target, "reward function")
    path = Path(place).resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"reward function '{target}': there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        hint = suggest(name, vars(module))
        raise ConfigError(f"reward function '{target}': {path.name} has no '{name}'. {hint}".rstrip())
    return getattr(module, name)


class Customer:
    """The function in its process: called rollout by rollout, on whole batches, or as many coroutines at once."""

    def __init__(self, instructions: Instructions) -> None:
        """Import the function. Raises ConfigError that says what is wrong with it."""
        self._instructions = instructions
        what = f"importing reward function '{instructions.function}'"
        try:
            with boundary(what):
                self._function = load_function(instructions.function)
        except ExtensionError as error:
            file = str(Path(instructions.function.rpartition(":")[0]).resolve())
            raise ConfigError(f"{what}: {describe(error.__cause__ or error, file)}") from error
        except SystemExit as error:
            raise ConfigError(f"{what}: it called sys.exit({error.code!r})") from error
        _check_call(self._function, instructions)
        self._source = _source(self._function)
        self.asynchronous = _is_async(self._function) and not instructions.batch
        self._runner = asyncio.Runner()

    def judge(self, rollouts: Sequence[Rollout], send: Send) -> None:
        """Report `start` and `score` of each rollout as they happen."""
        if self.asynchronous:
            self._runner.run(self._judge_at_once(rollouts, send))
        elif self._instructions.batch:
            self._judge_batch(rollouts, send)
        else:
            self._judge_in_turn(rollouts, send)

    def _judge_in_turn(self, rollouts: Sequence[Rollout], send: Send) -> None:
        send(event("start", {"i": [0]}))
        for index, rollout in enumerate(rollouts):
            printed, started = self._begin()
            outcome = self._outcome(rollout)
            report = event("score", {"i": index, **outcome, **_facts(printed, started)})
            after = event("start", {"i": [index + 1]}) if index + 1 < len(rollouts) else b""
            send(report + after)

    def _judge_batch(self, rollouts: Sequence[Rollout], send: Send) -> None:
        count = len(rollouts)
        send(event("start", {"i": list(range(count))}))
        printed, started = self._begin()
        try:
            with boundary("reward function"):
                outcomes = as_outcomes(self._call(list(rollouts)), count)
        except (ExtensionError, SystemExit) as error:
            outcomes = [raised(error.__cause__ or error, self._source)] * count
        facts = _facts(printed, started)
        send(b"".join(event("score", {"i": index, **outcome, **facts}) for index, outcome in enumerate(outcomes)))

    async def _judge_at_once(self, rollouts: Sequence[Rollout], send: Send) -> None:
        slots = asyncio.Semaphore(self._instructions.concurrency)

        async def one(index: int, rollout: Rollout) -> None:
            async with slots:
                send(event("start", {"i": [index]}))
                printed, started = self._begin()
                outcome = await self._outcome_async(rollout)
                send(event("score", {"i": index, **outcome, **_facts(printed, started)}))

        await asyncio.gather(*(one(index, rollout) for index, rollout in enumerate(rollouts)))

    def _begin(self) -> tuple[Printed, float]:
        printed = Printed(self._instructions.output_chars)
        current.set(printed)
        return printed, time.perf_counter()

    def _outcome(self, rollout: Rollout) -> Outcome:
        try:
            with boundary("reward function"):
                return as_outcome(self._call(rollout))
        except (ExtensionError, SystemExit) as error:
            return raised(error.__cause__ or error, self._source)

    async def _outcome_async(self, rollout: Rollout) -> Outcome:
        limit_s = self._instructions.timeout_s
        scope = asyncio.timeout(limit_s)
        try:
            with boundary("reward function"):
                async with scope:
                    return as_outcome(await self._function(rollout, **self._instructions.options))
        except (ExtensionError, SystemExit) as error:
            if scope.expired():
                return unscored("timeout", f"the function took longer than {limit_s:g} s", retryable=True)
            return raised(error.__cause__ or error, self._source)

    def _call(self, given: Any) -> Any:
        result = self._function(given, **self._instructions.options)
        return self._runner.run(_awaited(result)) if inspect.isawaitable(result) else result


def event(word: str, facts: dict[str, Any]) -> bytes:
    """One event as it goes to the owner."""
    return word.encode() + b" " + json.dumps(facts).encode() + b"\n"


async def _awaited(result: Any) -> Any:
    return await result


def _facts(printed: Printed, started: float) -> dict[str, Any]:
    return {"output": printed.text, "seconds": time.perf_counter() - started}


def _source(function: Any) -> str:
    """The file a function was written in, as tracebacks name it."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None) or getattr(getattr(type(inner), "__call__", None), "__code__", None)  # noqa: B004
    return code.co_filename if code else ""


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _check_call(function: Any, instructions: Instructions) -> None:
    if not callable(function):
        raise ConfigError(f"reward function '{instructions.function}' is a {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(object(), **instructions.options)
    except TypeError as error:
        given = "".join(f", {name}=…" for name in instructions.options)
        what = "rollouts" if instructions.batch else "rollout"
        raise ConfigError(
            f"reward function '{instructions.function}' cannot be called as it would be, "
            f"{getattr(function, '__name__', 'it')}({what}{given}): {error}"
        ) from error
    except ValueError:  # some built-in functions have no signature to check
        return
