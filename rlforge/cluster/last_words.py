"""What dead parts wrote last, from the log folder of the Ray session."""

from __future__ import annotations

from pathlib import Path

import psutil

LINES = 15
_RAYS_OWN = (":job_id:", ":actor_name:")


class LastWords:
    """Knows the process of each part; without a folder, on a cluster that we attached to, it has nothing to tell."""

    def __init__(self, logs: Path | None = None) -> None:
        self._logs = logs
        self._pids: dict[str, int] = {}

    def expect(self, name: str, pid: int) -> None:
        """The part of this name runs in this process."""
        self._pids[name] = pid

    def of(self, name: str) -> str:
        """The end of what the part wrote."""
        if self._logs is None or name not in self._pids:
            return ""
        said = [line for log in sorted(self._logs.glob(f"worker-*-{self._pids[name]}.*")) for line in _lines(log)]
        return f"last words of {name}:\n" + "\n".join(said[-LINES:]) if said else f"{name} left no last words"

    def of_the_dead(self, news: str) -> str:
        """Of every part that is dead, or that the news says lost a process of its own."""
        dead = [name for name, pid in self._pids.items() if not psutil.pid_exists(pid) or name in news]
        return "\n".join(self.of(name) for name in dead)


def _lines(log: Path) -> list[str]:
    written = log.read_text(errors="replace").splitlines()
    return [line for line in written if line.strip() and not line.startswith(_RAYS_OWN)]
