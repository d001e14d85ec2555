"""A source that draws its items in shuffled passes and can be restored.

Every pass visits each item once, in an order that depends only on the seed and the number of the pass.
The state is the number of drawn items, so a restored source continues with the next one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from unmask.seeds import derive_seed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw(Generic[T]):
    """An item that was drawn.

    Attributes:
        item: that was drawn.
        key: of this draw, the same in every run of the seed and the items: the pass, from 1, and the item's
            number. Noise is derived from it, so it is fresh in every pass and depends on nothing else.
    """

    item: T
    key: tuple[int, ...]


class Source(Protocol):
    """Items of a run, with a position that a checkpoint keeps."""

    def state(self) -> dict[str, Any]:
        """Return the position as JSON values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the position saved by `state()` of a source of the same items and seed."""
        ...


class ItemSource(Source, Protocol[T]):
    """A source of items."""

    def draw(self, count: int) -> list[Draw[T]]:
        """Return the next `count` draws."""
        ...


class Shuffled(Generic[T]):
    """Items in shuffled passes."""

    def __init__(self, items: Sequence[T], seed: int, digest: str | None = None) -> None:
        """Start at the first item of the first pass.

        Args:
            items: to draw.
            seed: of the order.
            digest: of the items' content, which a restored source must have as well.

        Raises:
            ValueError: if there are no items.
        """
        if not items:
            raise ValueError("the training split is empty: nothing to train on")
        self._items = items
        self._digest = digest
        self._seed = seed
        self._dealt = 0
        self._order: tuple[int, list[int]] = (-1, [])

    def draw(self, count: int) -> list[Draw[T]]:
        """Return the next `count` draws."""
        drawn = [self._draw(self._dealt + i) for i in range(count)]
        self._dealt += count
        return drawn

    def ahead(self, skip: int, count: int) -> list[Draw[T]]:
        """Return the `count` draws that follow the next `skip`, and stay where it is."""
        return [self._draw(self._dealt + skip + i) for i in range(count)]

    def state(self) -> dict[str, Any]:
        """Return the number of drawn items, and of all items, and their digest if there is one."""
        own = {} if self._digest is None else {"digest": self._digest}
        return {"dealt": self._dealt, "items": len(self._items), **own}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the position saved by `state()` of a source with the same items and seed.

        Raises:
            ValueError: if it had another number of items, and so other passes, or other content.
        """
        if state["items"] != len(self._items):
            raise ValueError(
                f"the data has {len(self._items)} items, but the resumed run had "
                f"{state['items']}: resume it with the same data"
            )
        if self._digest is not None and state.get("digest", self._digest) != self._digest:
            raise ValueError(
                "the data or its tokens changed since the run began: resume it with the same data, "
                "tokenizer and chat template"
            )
        self._dealt = state["dealt"]

    def _draw(self, number: int) -> Draw[T]:
        turn, place = divmod(number, len(self._items))
        if self._order[0] != turn:
            order = list(range(len(self._items)))
            random.Random(derive_seed(self._seed, turn)).shuffle(order)
            self._order = (turn, order)
        index = self._order[1][place]
        return Draw(self._items[index], (turn + 1, index))
