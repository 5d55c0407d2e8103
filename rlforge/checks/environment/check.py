"""Examines an environment behind an address."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rlforge.checks.dialling import environment_line
from rlforge.checks.environment import freeing, hostile, load, protocol, reference, worlds
from rlforge.checks.environment.actions import given_replies, replies_from
from rlforge.checks.environment.case import EnvironmentCase
from rlforge.checks.fault import Fault
from rlforge.checks.line import EnvironmentLine
from rlforge.checks.load import advice_on
from rlforge.checks.place import place_of
from rlforge.checks.properties import Property, chosen, examine
from rlforge.checks.report import Report, undescribed
from rlforge.checks.target import reached, refuse_to_begin
from rlforge.config import BaseConfig
from rlforge.errors import ConfigError
from rlforge.transports.config import EndpointConfig
from rlforge.wire.pb import environment_pb2, types_pb2

PROPERTIES: Sequence[Property[EnvironmentCase]] = (
    *protocol.PROPERTIES,
    *worlds.PROPERTIES,
    *reference.PROPERTIES,
    *hostile.PROPERTIES,
    *load.PROPERTIES,
    *freeing.PROPERTIES,
)
"""In the order in which they are examined: those that may leave a broken server without room come last."""


class EnvironmentChecks(BaseConfig):
    """How an environment is examined."""

    split: str | None = None
    """Split whose tasks are played; unset: the first that the environment names."""
    worlds: int = Field(default=8, ge=1)
    """Worlds played side by side."""
    seconds: float = Field(default=4.0, gt=0)
    """Seconds of load."""
    patience_s: float = Field(default=10.0, gt=0)
    """Seconds to wait for any one answer, or for a world's place to come back."""
    actions: str | None = None
    """Replies to step with: a file with one a line, or the text itself; unset: reference answers, calls made up from
    the tools' schemas, or words on trial."""
    only: str | None = None
    """Examine the properties whose names contain this, and no others."""


async def check_environment(config: EndpointConfig, settings: EnvironmentChecks | None = None) -> Report:
    """Examine every property of the environment behind an address.

    Raises EndpointUnavailable or EndpointRefused when it cannot be reached at all, ConfigError and DataError for
    settings that make no sense.
    """
    settings = settings or EnvironmentChecks()
    async with reached(config, "environment", settings.worlds) as real:
        place = place_of(real, settings.patience_s)
        line = environment_line(place)
        try:
            return await _checked(config.address, real, settings, line)
        finally:
            await line.close()


async def _checked(target: str, config: EndpointConfig, settings: EnvironmentChecks, line: EnvironmentLine) -> Report:
    try:
        spec = await line.describe()
        tasks = await _tasks(line, spec, settings)
    except Fault as fault:
        refuse_to_begin(fault, target)
        return undescribed("environment", target, PROPERTIES, fault)
    case = EnvironmentCase(
        config=config,
        place=line.place,
        dial=environment_line,
        line=line,
        spec=spec,
        tasks=tasks or [types_pb2.Task(id="check/0")],
        replies=given_replies(settings.actions) if settings.actions else replies_from(spec, tasks),
        worlds=settings.worlds,
        seconds=settings.seconds,
    )
    findings = await examine(chosen(PROPERTIES, settings.only), case)
    made_up = "" if tasks else " (made up: the environment lists none)"
    return Report(
        kind="environment",
        target=target,
        name=spec.name,
        findings=tuple(findings),
        facts=(("tasks", f"{len(case.tasks)}{made_up}"), ("replies", case.replies.source)),
        loads=tuple(case.loads),
        advice=tuple(advice_on(case.loads, "steps", "worlds")),
    )


async def _tasks(
    line: EnvironmentLine, spec: environment_pb2.EnvironmentSpec, settings: EnvironmentChecks
) -> list[types_pb2.Task]:
    names = [split.name for split in spec.splits]
    if settings.split is not None and settings.split not in names:
        raise ConfigError(f"the environment has no split '{settings.split}'. Known: {', '.join(names) or 'none'}")
    if not names:
        return []
    return await line.tasks(settings.split or names[0], 0, max(settings.worlds, 16))
