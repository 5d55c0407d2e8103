"""An endless, weighted, shuffled stream over several sources, addressed by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlforge.data.config import Item
from rlforge.data.permutation import permute
from rlforge.data.schedule import Schedule
from rlforge.errors import DataError
from rlforge.interfaces import Source
from rlforge.seeds import derive_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One draw from a mixture."""

    item: Item
    source: str
    epoch: int
    """How often the stream has passed over this source before."""
    position: int


class Mixture:
    """What stands at a position is a function of the position alone, so a stream resumes from one integer.

    Each source is shuffled anew in every epoch and gives each of its items exactly once in it; its order depends on
    its own name and size and the seed, not on its neighbours.

    Example: `Mixture([addition, chat], [3, 1], seed=0).at(17).item`.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] | None = None, seed: int = 0) -> None:
        """`weights` are relative, equal when None. Raises DataError for no sources, empty ones or equal names."""
        weights = [1.0] * len(sources) if weights is None else weights
        _check(sources, weights)
        self._sources = tuple(sources)
        self._lengths = [len(source) for source in sources]
        self._schedule = Schedule(weights, offset=derive_seed(seed, "mixture") << 33)
        self._seed = seed

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in their order."""
        return tuple(source.name for source in self._sources)

    def at(self, position: int) -> Drawn:
        """The draw at a position, 0 or more."""
        if position < 0:
            raise DataError(f"a stream begins at position 0; there is nothing at {position}")
        choice = self._schedule.choice(position)
        source, length = self._sources[choice], self._lengths[choice]
        epoch, place = divmod(self._schedule.count(choice, position), length)
        index = permute(place, length, derive_seed(self._seed, source.name, epoch))
        return Drawn(item=source[index], source=source.name, epoch=epoch, position=position)

    def slice(self, start: int, stop: int) -> list[Drawn]:
        """The draws at start, start + 1, …, stop - 1."""
        return [self.at(position) for position in range(start, stop)]


def _check(sources: Sequence[Source], weights: Sequence[float]) -> None:
    if not sources:
        raise DataError("a mixture needs at least one source; name one under data")
    if len(weights) != len(sources) or not all(weight > 0 for weight in weights):
        raise DataError(f"a mixture of {len(sources)} sources needs as many weights above 0, not {list(weights)}")
    for source in sources:
        if len(source) == 0:
            raise DataError(f"source '{source.name}' has no items")
    refuse_equal_names(sources)


def refuse_equal_names(sources: Sequence[Source]) -> None:
    """Raise DataError for two sources of one name: ids begin with it, and so do seeds and what an evaluation counts."""
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two sources are called '{twice}', so their items could not be told apart; set name on one")
