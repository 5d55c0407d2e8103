"""What a check of an endpoint came to: a table for people, an object for programs, an exit code for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rlforge.checks.fault import Fault
from rlforge.checks.load import Load
from rlforge.checks.properties import Finding, Outcome, Property
from rlforge.values import value


@value()
class Report:
    """The findings of one check."""

    kind: str
    """`environment` or `reward`."""
    target: str
    name: str
    """What the endpoint calls itself."""
    findings: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...] = ()
    """What it was checked with: label and value."""
    loads: tuple[Load, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.named(Outcome.FAILED)

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return 0 if self.ok else 1

    def named(self, outcome: Outcome) -> list[str]:
        """Names of the properties with this outcome."""
        return [finding.name for finding in self.findings if finding.outcome is outcome]

    def summary(self) -> str:
        """In one line."""
        counts = Counter(finding.outcome for finding in self.findings)
        return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "kind": self.kind,
            "target": self.target,
            "name": self.name,
            "ok": self.ok,
            "facts": dict(self.facts),
            "findings": [asdict(finding) for finding in self.findings],
            "load": [load.as_numbers() for load in self.loads],
            "advice": list(self.advice),
        }


def undescribed(kind: str, target: str, properties: Sequence[Property[Any]], fault: Fault) -> Report:
    """The report on an endpoint whose Describe failed: nothing else can be examined."""
    first, *rest = properties
    told = "it does not describe itself"
    findings = [_finding(first, Outcome.FAILED, str(fault)), *(_finding(each, Outcome.SKIPPED, told) for each in rest)]
    return Report(kind=kind, target=target, name="?", findings=tuple(findings))


def _finding(each: Property[Any], outcome: Outcome, told: str) -> Finding:
    return Finding(name=each.name, outcome=outcome, told=told, why=each.why, remedy=each.remedy, seconds=0.0)
