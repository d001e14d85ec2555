"""Several sources, drawn in proportion to weights.

Draw `n` comes from the source that is furthest behind its share, `w_i n - n_i` with `n_i` the draws it has had.
So the mixture is exact at every point of a run, to one draw, and needs no random numbers: within a source the
order is that of its own shuffled passes. A source that is drawn more often than it has items begins another pass.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from unmask.data.shuffled import Draw, ItemSource

T = TypeVar("T")


class Mixture(Generic[T]):
    """Shuffled sources with weights."""

    def __init__(self, sources: Sequence[ItemSource[T]], weights: Sequence[float]) -> None:
        """Start at the first item of every source.

        Args:
            sources: each in an order of its own.
            weights: shares of the draws, in any unit; above 0.
        """
        self._sources = sources
        self._shares = [weight / sum(weights) for weight in weights]
        self._drawn = [0] * len(sources)

    def draw(self, count: int) -> list[Draw[T]]:
        """Return the next `count` draws; their keys begin with the source's number, from 1."""
        places = [self._next() for _ in range(count)]
        return [
            Draw(drawn.item, (place + 1, *drawn.key))
            for place in places
            for drawn in self._sources[place].draw(1)
        ]

    def state(self) -> dict[str, Any]:
        """Return the positions of all sources."""
        return {"sources": [source.state() for source in self._sources]}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the positions saved by `state()` of a mixture of the same sources and weights.

        Raises:
            ValueError: as its sources, or it had another number of sources.
        """
        states = state.get("sources", ())
        if len(states) != len(self._sources):
            raise ValueError(
                f"the data has {len(self._sources)} sources, but the resumed run had {len(states)}"
            )
        for source, own in zip(self._sources, states, strict=True):
            source.restore(own)
        self._drawn = [own["dealt"] for own in states]

    def _next(self) -> int:
        total = sum(self._drawn) + 1
        behind = [share * total - n for share, n in zip(self._shares, self._drawn, strict=True)]
        place = behind.index(max(behind))
        self._drawn[place] += 1
        return place
