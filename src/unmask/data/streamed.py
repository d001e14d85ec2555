"""A source that reads its records while it is drawn from, and can be restored.

Nothing of a stream is known beforehand, so its order is that of the records, shuffled within windows of so many
records by a seed that depends on the run, the pass and the window's first record. A checkpoint keeps that record's
number; a restored source skips to it, reads the window again and continues with the next item of it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from unmask.data.shuffled import Draw
from unmask.seeds import derive_seed

T = TypeVar("T")
WINDOW = 1024


class Streamed(Generic[T]):
    """Items of a stream of records, in passes that are shuffled within windows."""

    def __init__(
        self, read: Callable[[int], Iterator[Sequence[T]]], seed: int, window: int = WINDOW
    ) -> None:
        """Start at the first record; nothing is read before the first draw.

        Args:
            read: yields the items of each record, beginning after so many records.
            seed: of the order.
            window: records that are shuffled together.
        """
        self._read, self._seed, self._size = read, seed, window
        self._dealt = self._pass = 0
        self._move_to(0, 0)

    def draw(self, count: int) -> list[Draw[T]]:
        """Return the next `count` draws; an item's number is its record's, and its place within the record.

        Raises:
            ValueError: a record cannot be read, or a pass has no items.
        """
        return [self._next() for _ in range(count)]

    def state(self) -> dict[str, Any]:
        """Return the number of drawn items, the pass, the records before the window, and the place in it."""
        return {
            "dealt": self._dealt,
            "pass": self._pass,
            "records": self._records,
            "place": self._place,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the position saved by `state()` of a source of the same records and seed.

        Raises:
            ValueError: it was no stream, or its window has fewer items now.
        """
        if "records" not in state:
            raise ValueError("the resumed run did not stream its data: resume it as it began")
        self._dealt, self._pass = state["dealt"], state["pass"]
        self._move_to(state["records"], state["place"])

    def _move_to(self, records: int, place: int) -> None:
        self._records, self._place = records, 0
        self._stream = self._read(records)
        self._window: list[Draw[T]] = []
        self._num_read = 0  # records of the window
        if place:
            self._fill()
            if place > len(self._window):
                raise ValueError("the stream has fewer items than when the run began")
            self._place = place

    def _next(self) -> Draw[T]:
        passes = self._pass
        while self._place == len(self._window):
            if self._pass > passes + 1:
                raise ValueError("the stream has no demonstrations")
            self._fill()
        self._place += 1
        self._dealt += 1
        return self._window[self._place - 1]

    def _fill(self) -> None:
        """Read the next window, or begin the next pass."""
        self._records += self._num_read
        records = list(islice(self._stream, self._size))
        self._window = [
            Draw(item, (self._pass + 1, record, place))
            for record, items in enumerate(records, start=self._records)
            for place, item in enumerate(items)
        ]
        self._place, self._num_read = 0, len(records)
        random.Random(derive_seed(self._seed, self._pass, self._records)).shuffle(self._window)
        if not records:
            self._pass += 1
            self._records, self._stream = 0, self._read(0)
