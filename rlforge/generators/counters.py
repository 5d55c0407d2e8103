"""What a generator counts while it works."""

from __future__ import annotations

from time import perf_counter

from rlforge.types import Completion, Metrics


class Counters:
    """Totals since the start. Busy is any time with a request in flight, waiting the rest, paused a swap of weights."""

    def __init__(self) -> None:
        self._totals: Metrics = {
            f"generator/{key}": 0.0
            for key in (
                "requests",
                "aborted",
                "tokens",
                "prompt_tokens",
                "prefix_hits_tokens",
                "loads",
                "busy_s",
                "pause_s",
            )
        }
        self._began = perf_counter()
        self._running = 0
        self._busy_since = 0.0

    def request(self) -> InFlight:
        """Wraps one request in flight."""
        return InFlight(self)

    def begun(self) -> None:
        """One more request is in flight."""
        if self._running == 0:
            self._busy_since = perf_counter()
        self._running += 1

    def ended(self, *, aborted: bool) -> None:
        """One request less is in flight."""
        if aborted:
            self.add("aborted", 1)
        self._running -= 1
        if self._running == 0:
            self.add("busy_s", perf_counter() - self._busy_since)

    def finished(self, prompt_tokens: int, completion: Completion, prefix_hits: int = 0) -> None:
        """Count a completion."""
        self.add("requests", 1)
        self.add("prompt_tokens", prompt_tokens)
        self.add("tokens", len(completion.token_ids))
        self.add("prefix_hits_tokens", prefix_hits)

    def add(self, key: str, amount: float) -> None:
        """Add to `generator/<key>`."""
        self._totals[f"generator/{key}"] += amount

    def read(self) -> Metrics:
        """Totals so far, with `generator/wait_s`, the seconds without work, and `generator/running`."""
        now = perf_counter()
        busy = self._totals["generator/busy_s"] + (now - self._busy_since if self._running else 0.0)
        return self._totals | {
            "generator/running": float(self._running),
            "generator/busy_s": busy,
            "generator/wait_s": now - self._began - busy,
        }


class InFlight:
    """One request; a class, because a generator would cost several times as much at every request."""

    __slots__ = ("_counters",)

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def __enter__(self) -> None:
        self._counters.begun()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._counters.ended(aborted=kind is not None)
