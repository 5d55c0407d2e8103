"""Reads secrets from where a recipe says that they are, and keeps their text out of messages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from rlforge.errors import ConfigError
from rlforge.types import Score


class Secret:
    """A text that shows as stars wherever it is printed; `reveal` gives it away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the wire, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


def read_secret(where: str | None, what: str) -> Secret | None:
    """The secret at `env:NAME` or `file:PATH`, white space around it cut off; None where none is named.

    Raises ConfigError when there is none, in words that name `what` it is for and the place.
    """
    if where is None:
        return None
    kind, _, place = where.partition(":")
    if kind not in ("env", "file"):  # the text may be the secret itself: it is not shown
        raise ConfigError(f"the {what} is named, not written: use env:NAME or file:PATH")
    if kind == "env":
        text = os.environ.get(place, "")
    else:
        try:
            text = Path(place).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"the {what} is to be read from '{where}': {error.strerror or error}") from error
    text = text.strip()
    if not text:
        raise ConfigError(f"the {what} is to be read from '{where}', but there is nothing; set it before you start")
    if not text.isprintable():  # no header can hold it, and whoever says so would show it
        raise ConfigError(f"the {what} at '{where}' holds a line break or a control character; write it in one line")
    return Secret(text)


def redacted(text: str, secrets: Iterable[Secret | None]) -> str:
    """The text with every secret in it replaced by stars: somebody else's words may repeat what we sent."""
    for secret in filter(None, secrets):
        plain = secret.reveal()
        as_json = json.dumps(plain)[1:-1]
        for written in {plain, as_json, as_json.replace("/", "\\/")}:
            text = text.replace(written, "***")
    return text


def scores_redacted(scores: Mapping[str, Score], secrets: Iterable[Secret | None]) -> Mapping[str, Score]:
    """Scores whose words, an endpoint's own, show none of the secrets that it was sent."""
    hidden = [secret for secret in secrets if secret is not None]
    if not hidden:
        return scores
    return {
        item: replace(
            score,
            reason=redacted(score.reason, hidden),
            output=redacted(score.output, hidden),
            error_kind=score.error_kind and redacted(score.error_kind, hidden),
        )
        for item, score in scores.items()
    }
