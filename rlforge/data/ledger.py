"""Which tasks of an `rl` stage have been dealt with, so that after any crash none is trained twice and none is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from rlforge.errors import RunError

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What became of one draw."""

    position: int
    """Where in the stream the task was drawn."""
    task_id: str
    epoch: int
    attempts: tuple[int, ...] = ()
    """For each member of the group, the attempt that counted: 0 unless it was tried again after a fault."""
    outcome: Literal["trained", "dropped"] = "trained"
    """`dropped`: the whole group stayed unscored; the task was seen and counted, but taught nothing."""


class Stream(Protocol):
    """What a ledger can be held against: `Mixture` is one."""

    def at(self, position: int) -> Any:
        """The draw at a position, with `item` and `epoch`."""
        ...


class Ledger:
    """The entries of each optimizer step, in order; kept in checkpoints, so that it agrees with the weights there.

    Example: `ledger.record(7, [Entry(position=56, task_id="addition/17", epoch=0)])`.
    """

    def __init__(self) -> None:
        self._steps: dict[int, tuple[Entry, ...]] = {}
        self._marks: set[int | tuple[str, int]] = set()  # positions, and (task, epoch)

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._steps.values())

    @property
    def step(self) -> int | None:
        """The last recorded step; None before the first."""
        return next(reversed(self._steps), None)

    def entries(self, step: int) -> tuple[Entry, ...]:
        """What a step learned from; empty when it is not recorded."""
        return self._steps.get(step, ())

    def record(self, step: int, entries: Iterable[Entry]) -> None:
        """Note what a step learned from. Raises RunError for a step out of order and for a draw noted before."""
        entries = tuple(entries)
        if self.step is not None and step <= self.step:
            raise RunError(
                f"ledger: step {step} comes after step {self.step}, which is already recorded; truncate first"
            )
        new: set[int | tuple[str, int]] = set()
        for entry in entries:
            marks = {entry.position, (entry.task_id, entry.epoch)}
            if marks & new or marks & self._marks:
                raise RunError(f"ledger: step {step} trains {_name(entry)} again; each draw is trained once")
            new |= marks
        self._steps[step] = entries
        self._marks |= new

    def pending(self, start: int, stop: int) -> list[int]:
        """Positions in [start, stop) that no step has dealt with: in flight, or to be drawn again after a crash."""
        return [position for position in range(start, stop) if position not in self._marks]

    def check(self, start: int, stop: int, stream: Stream | None = None) -> None:
        """Raise RunError unless exactly the positions in [start, stop) are recorded, each once.

        With a `stream`, also that each entry is the task that the stream has at its position.
        """
        lost = self.pending(start, stop)
        if lost:
            raise RunError(
                f"ledger: {len(lost)} of the draws {start} to {stop - 1} were lost, first position {lost[0]}"
            )
        for entry in (entry for entries in self._steps.values() for entry in entries):
            if not start <= entry.position < stop:
                raise RunError(f"ledger: {_name(entry)} lies outside the draws {start} to {stop - 1}")
            if stream is not None:
                drawn = stream.at(entry.position)
                if (drawn.item.id, drawn.epoch) != (entry.task_id, entry.epoch):
                    raise RunError(
                        f"ledger: {_name(entry)} is not what the stream has there ('{drawn.item.id}', epoch "
                        f"{drawn.epoch}); the data or the seed changed under the run: bring back what it began with, "
                        "or start a new run"
                    )

    def truncated(self, step: int) -> Ledger:
        """A ledger without anything after `step`, to resume from the checkpoint of that step."""
        kept = Ledger()
        for number, entries in self._steps.items():
            if number <= step:
                kept.record(number, entries)
        return kept

    def to_json(self) -> dict[str, Any]:
        """JSON values with a schema version."""
        steps = [
            {"step": step, "entries": [asdict(entry) for entry in entries]} for step, entries in self._steps.items()
        ]
        return {"schema_version": SCHEMA_VERSION, "steps": steps}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ledger:
        """The ledger `to_json` wrote. Raises RunError for a schema this version cannot read."""
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise RunError(
                f"ledger: schema version {version!r} is not {SCHEMA_VERSION}; read it with the rlforge that wrote it"
            )
        ledger = cls()
        for step in data["steps"]:
            ledger.record(step["step"], [_entry(values) for values in step["entries"]])
        return ledger


def _entry(values: Mapping[str, Any]) -> Entry:
    plain = dict(values)
    return Entry(attempts=tuple(plain.pop("attempts")), **plain)


def _name(entry: Entry) -> str:
    return f"task '{entry.task_id}' of epoch {entry.epoch} (position {entry.position})"
