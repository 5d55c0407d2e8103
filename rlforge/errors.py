"""The error vocabulary, and `boundary()`, the one place where foreign exceptions are attributed.

A message says what was being done, with what value, and what to do about it.
"""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType


class RlforgeError(Exception):
    """Base of every error rlforge raises on purpose; `args` is the message alone, so that it crosses processes."""


class ConfigError(RlforgeError):
    """A recipe or an override is wrong; nothing has been started."""


class DataError(RlforgeError):
    """A data source or one of its rows is wrong; the message names file and line."""


class SetupError(RlforgeError):
    """The machine or the installation lacks something."""


class RunError(RlforgeError):
    """A run folder cannot be read, written or resumed."""


class GenerationError(RlforgeError):
    """A generator could not complete a request."""


class ContextOverflow(GenerationError):
    """A prompt leaves no room for a reply within the generator's context."""


class WeightSyncError(RlforgeError):
    """A generator holds other weights than the learner published."""


class LearnerError(RlforgeError):
    """A learning step cannot be done: a batch that does not fit, a loss that is not finite."""


class TooManyUnscored(RlforgeError):
    """More rollouts stayed unscored than the recipe allows."""


class DeadlineExceeded(RlforgeError):
    """A named wait took longer than it may."""


class ActorDied(RlforgeError):
    """A process of the run is gone; the message carries its last words."""


class EndpointError(RlforgeError):
    """Something asked for over a transport was not done: base of the four ways in which that happens."""


class EndpointUnavailable(EndpointError):
    """The endpoint cannot be reached, dropped the connection or is draining: asking again may help."""


class EndpointCancelled(EndpointUnavailable):
    """The endpoint gave up in the middle what it was doing for us."""


class EndpointBusy(EndpointError):
    """The endpoint has no room now: asking again later helps."""

    retry_after_s: float = 0.0
    """Seconds the endpoint advises to wait before the next attempt; 0: it said nothing."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EndpointRefused(EndpointError):
    """The endpoint says that the request is wrong or not allowed: asking again does not help."""


class EndpointBroken(EndpointError):
    """The endpoint failed at it or answered with what makes no sense; another attempt may fare better."""


class SandboxError(RlforgeError):
    """A sandbox could not be made or failed; this says nothing about the code that was to run in it."""


class ExtensionError(RlforgeError):
    """Code or a service of the user raised; the message says which part, on what, and where in their code."""


class boundary:  # noqa: N801 (it reads as the function it stands for)
    """Attribute whatever the user's code raises to `part` (a scorer, a source) and to what it was working `on`.

    Our own errors pass as they are. Ctrl-C, exit and a cancelling that somebody asked for are not errors and pass too;
    one that nobody asked for, of something else that the code waited for, is its error.
    One may be entered again and again. Example: `with boundary("scorer 'unit_tests'", on="task 'mbpp/17'"): ...`
    """

    __slots__ = ("_on", "_part")

    def __init__(self, part: str, on: str = "") -> None:
        self._part = part
        self._on = on

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, RlforgeError):
            return
        if isinstance(error, Exception) or (isinstance(error, asyncio.CancelledError) and not _is_cancelled()):
            raise ExtensionError(attribute(error, self._part, self._on)) from error


def _is_cancelled() -> bool:
    """Whether somebody cancels the task we are in; also where there is none, on a thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True
    return task is None or task.cancelling() > 0


def attribute(error: BaseException, part: str, on: str = "") -> str:
    """One line that says which part failed on what, with the innermost line of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    subject = f"{part} on {on}" if on else part
    return f"{subject}: {type(error).__name__}: {error}{where}"
