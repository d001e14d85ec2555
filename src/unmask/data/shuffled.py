"""A source that draws its items in shuffled passes and can be restored.

Every pass visits each item once, in an order that depends only on the seed and the number of the pass.
The state is the number of drawn items, so a restored source continues with the next one.
"""

import random
from collections.abc import Sequence
from typing import Generic, TypeVar

from unmask.seeds import derive_seed

T = TypeVar("T")


class Shuffled(Generic[T]):
    """Items in shuffled passes."""

    def __init__(self, items: Sequence[T], seed: int) -> None:
        """Start at the first item of the first pass.

        Raises:
            ValueError: if there are no items.
        """
        if not items:
            raise ValueError("the training split is empty: nothing to train on")
        self._items = items
        self._seed = seed
        self._dealt = 0
        self._order: tuple[int, list[int]] = (-1, [])

    def draw(self, count: int) -> list[T]:
        """Return the next `count` items."""
        drawn = [self._items[self._index(self._dealt + i)] for i in range(count)]
        self._dealt += count
        return drawn

    def state(self) -> dict[str, int]:
        """Return the number of drawn items, and of all items."""
        return {"dealt": self._dealt, "items": len(self._items)}

    def restore(self, state: dict[str, int]) -> None:
        """Restore the position saved by `state()` of a source with the same items and seed.

        Raises:
            ValueError: if it had another number of items, and so other passes.
        """
        if state["items"] != len(self._items):
            raise ValueError(
                f"the data has {len(self._items)} items, but the resumed run had "
                f"{state['items']}: resume it with the same data"
            )
        self._dealt = state["dealt"]

    def _index(self, number: int) -> int:
        turn, place = divmod(number, len(self._items))
        if self._order[0] != turn:
            order = list(range(len(self._items)))
            random.Random(derive_seed(self._seed, turn)).shuffle(order)
            self._order = (turn, order)
        return self._order[1][place]
