"""Schema versions of the files in a run folder, and the refusal to read newer ones."""

from __future__ import annotations

from pathlib import Path

from rlforge.errors import RunError

RUN = 1
"""Layout of the folder itself, kept in `run.json`."""
METRICS = 1
EVENTS = 1
ROLLOUTS = 3
"""2: turns have `components` and `info`. 3: rollouts have `opening`."""
EVALUATIONS = 1
CHECKPOINT = 1


def check_schema(found: object, known: int, path: Path) -> None:
    """Raise RunError unless `found` is a schema version this rlforge can read (1 up to `known`)."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise RunError(f"{path} carries no schema version (found {found!r}); it was not written by rlforge")
    if found > known:
        raise RunError(
            f"{path} has schema version {found}, this rlforge reads up to {known}; "
            "read it with the rlforge that wrote it, or upgrade this one"
        )
