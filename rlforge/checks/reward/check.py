"""Examines a reward endpoint behind an address."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rlforge.checks.dialling import reward_line
from rlforge.checks.fault import Fault
from rlforge.checks.line import RewardLine
from rlforge.checks.load import advice_on
from rlforge.checks.place import place_of
from rlforge.checks.properties import Property, chosen, examine
from rlforge.checks.report import Report, undescribed
from rlforge.checks.reward import hostile, load, scores
from rlforge.checks.reward.case import RewardCase
from rlforge.checks.reward.items import enough, made_up_rollouts
from rlforge.checks.target import reached, refuse_to_begin
from rlforge.config import BaseConfig
from rlforge.rewards.replies import rollouts_from_jsonl
from rlforge.transports.config import EndpointConfig

PROPERTIES: Sequence[Property[RewardCase]] = (
    *scores.PROPERTIES,
    *hostile.PROPERTIES,
    *load.PROPERTIES,
    *hostile.LAST,
)
"""In the order in which they are examined."""


class RewardChecks(BaseConfig):
    """How a reward endpoint is examined."""

    on: str | None = None
    """JSONL of rollouts to judge, with replies and answers; unset: sums, whose values say nothing."""
    batch: int = Field(default=16, ge=2)
    """Items in one request."""
    requests: int = Field(default=8, ge=1)
    """Requests at once under load."""
    seconds: float = Field(default=4.0, gt=0)
    """Seconds of load."""
    patience_s: float = Field(default=10.0, gt=0)
    """Seconds to wait for any one answer."""
    only: str | None = None
    """Examine the properties whose names contain this, and no others."""


async def check_reward(config: EndpointConfig, settings: RewardChecks | None = None) -> Report:
    """Examine every property of the reward endpoint behind an address.

    Raises EndpointUnavailable or EndpointRefused when it cannot be reached at all, ConfigError and DataError for
    settings that make no sense.
    """
    settings = settings or RewardChecks()
    async with reached(config, "reward", 0) as real:
        line = reward_line(place_of(real, settings.patience_s))
        try:
            return await _checked(config.address, real, settings, line)
        finally:
            await line.close()


async def _checked(target: str, config: EndpointConfig, settings: RewardChecks, line: RewardLine) -> Report:
    rollouts = rollouts_from_jsonl(settings.on) if settings.on else made_up_rollouts(settings.batch)
    try:
        spec = await line.describe_scorer()
    except Fault as fault:
        refuse_to_begin(fault, target)
        return undescribed("reward", target, PROPERTIES, fault)
    case = RewardCase(
        config=config,
        place=line.place,
        dial=reward_line,
        line=line,
        spec=spec,
        rollouts=enough(rollouts[: settings.batch]),
        given=settings.on is not None,
        requests=settings.requests,
        seconds=settings.seconds,
    )
    findings = await examine(chosen(PROPERTIES, settings.only), case)
    return Report(
        kind="reward",
        target=target,
        name=spec.name,
        findings=tuple(findings),
        facts=(("rollouts", f"{case.batch} a request, {settings.on or 'made up: give your own with --on'}"),),
        loads=tuple(case.loads),
        advice=tuple(advice_on(case.loads, "items", "requests")),
    )
