"""What a sandbox is given to run, within which limits, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from rlforge.values import value


class Isolation(StrEnum):
    """How far a program is kept apart; from the strongest to the weakest."""

    NAMESPACES = "namespaces"
    """User, process, network, mount, ipc and host-name namespaces of its own, made by our launcher."""
    BUBBLEWRAP = "bubblewrap"
    """The same, made by `bwrap`: some systems let it do what they forbid to others."""
    USER = "user"
    """A user of its own and limits. It can reach the network and read what every user may read."""
    LIMITS = "limits"
    """Limits alone. It can reach the network and whatever the user who started it can."""


@value()
class Limits:
    """What a program may use."""

    wall_s: float = 10.0
    """Seconds from its first instruction to its end."""
    cpu_s: float = 10.0
    """Processor seconds of each of its processes, rounded up to whole ones."""
    memory_bytes: int = 1 << 30
    """Address space of each process, and memory of all of them together (looked at ten times a second)."""
    file_bytes: int = 16 << 20
    """Size of one file it writes."""
    disk_bytes: int = 64 << 20
    """Size of all files it writes; without namespaces nobody counts them."""
    processes: int = 32
    """Processes and threads at once."""
    open_files: int = 64
    output_bytes: int = 64 << 10
    """What it may print, standard output and error together; printing more ends it."""


@value()
class Program:
    """Something to run."""

    command: tuple[str, ...]
    """What to execute, an absolute path first; `python(...)` writes one for this interpreter."""
    files: Mapping[str, str | bytes] = field(default_factory=lambda: dict[str, str | bytes]())
    """Files put into the working folder, by their path in it."""
    stdin: str | bytes = b""
    readable: tuple[str, ...] = ()
    """Files and folders of this machine that it may read, beside the system's programs and this interpreter."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Its environment variables, beside PATH, HOME, TMPDIR, LANG and PYTHONHASHSEED. None of ours is passed on."""


class Ended(StrEnum):
    """How a program ended."""

    EXITED = "exited"
    """By itself; `exit_code` says with what."""
    SIGNAL = "signal"
    """By a signal that was not ours: it crashed or killed itself."""
    WALL_TIME = "wall_time"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    OUTPUT = "output"


@value()
class Execution:
    """What became of a program. Whatever it started has ended with it."""

    ended: Ended
    exit_code: int | None = None
    """Exit status; None where it did not end by itself."""
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    """From its first instruction to its end."""
    cpu_s: float = 0.0
    """Processor seconds of its first process and those that one waited for; 0 where bubblewrap hides it."""
    isolation: Isolation
    words: str = ""
    """How it ended, for a person to read."""

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.exit_code == 0
