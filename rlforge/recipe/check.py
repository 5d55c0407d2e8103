"""The doctor: everything that can be known to be wrong with a recipe before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlforge.errors import ConfigError
from rlforge.recipe.environments import ENVIRONMENT_RULES, endpoints_answer
from rlforge.recipe.findings import Case, Finding
from rlforge.recipe.generators import GENERATOR_RULES
from rlforge.recipe.load import Document, read_document
from rlforge.recipe.machine import memory_fits
from rlforge.recipe.rules import RULES
from rlforge.recipe.scorers import SCORER_RULES
from rlforge.recipe.starts import START_RULES


def check_recipe(path: Path | str, overrides: Sequence[str] = ()) -> list[Finding]:
    """All findings, errors first. A recipe that does not validate has its schema errors alone."""
    try:
        case = Case(read_document(path, overrides).recipe())
        absences = list(endpoints_answer(case))
        return [*check_case(case), *absences]
    except ConfigError as error:
        return [Finding(severity="error", key="", message=line) for line in str(error).splitlines()]


def check_document(document: Document) -> list[Finding]:
    """Findings of every rule. Raises ConfigError when the document does not validate."""
    return check_case(Case(document.recipe()))


def check_case(case: Case) -> list[Finding]:
    """Findings of every rule, errors first."""
    found = [
        finding
        for rule in (*RULES, *START_RULES, *GENERATOR_RULES, *SCORER_RULES, *ENVIRONMENT_RULES, memory_fits)
        for finding in rule(case)
    ]
    return sorted(found, key=lambda finding: finding.severity != "error")
