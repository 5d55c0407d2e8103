"""The guide to checks names every property, in the order in which they are examined."""

from __future__ import annotations

import re
from pathlib import Path

from rlforge.checks.environment.check import PROPERTIES as OF_ENVIRONMENTS
from rlforge.checks.reward.check import PROPERTIES as OF_REWARDS

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "check-an-endpoint.md"


def test_the_guide_lists_every_property_in_its_order() -> None:
    rows = re.findall(r"^\| ([^|]+) \|[^|]+\|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    named = [row.strip() for row in rows if row.strip() not in ("property", "---")]
    assert named == [each.name for each in (*OF_ENVIRONMENTS, *OF_REWARDS)]
