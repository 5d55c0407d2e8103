"""Rules on what scorers need to find on the machine: else a run ends where they start, after a warm start of hours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlforge.errors import ConfigError
from rlforge.recipe.findings import Case, Finding, Rule
from rlforge.transports.secrets import read_secret

_SECRETS = ("token", "signing_key", "api_key")
_CERTIFICATES = ("ca", "certificate", "key")


def scorers_have_their_secrets(case: Case) -> Iterator[Finding]:
    """A variable may be set on one machine and not on another."""
    for key, scorer in case.scorers():
        for name in _SECRETS:
            try:
                read_secret(getattr(scorer, name, None), f"{name} of scorer '{scorer.label}'")
            except ConfigError as error:
                yield Finding(severity="error", key=f"{key}.{name}", message=str(error))


def scorers_have_their_files(case: Case) -> Iterator[Finding]:
    """A judge's rubric, and certificates."""
    for key, scorer in case.scorers():
        tls = getattr(scorer, "tls", None)
        files = {"rubric_file": getattr(scorer, "rubric_file", None)}
        files |= {f"tls.{name}": getattr(tls, name, None) for name in _CERTIFICATES}
        for name, path in files.items():
            if path and not Path(path).is_file():
                yield Finding(severity="error", key=f"{key}.{name}", message=f"there is no file '{path}'")


SCORER_RULES: tuple[Rule, ...] = (scorers_have_their_secrets, scorers_have_their_files)
