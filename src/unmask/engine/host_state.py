"""What the host knows of the running sequences: a few numbers of each, as of the last report.

After every tick the state sends one small tensor to the host. On CUDA it is read one tick late, while
the next pass runs, so everything derived from it holds for a state that has gone on by one tick: a
sequence may have moved on by one block. Nothing here costs work per sequence but arithmetic on rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.engine.pages import num_pages
from unmask.engine.scheduler import Running, Start
from unmask.engine.sequence_state import Slots
from unmask.models.attention import KEY_CHUNK

FIELDS = ("number", "num_response", "step", "start", "cached", "block", "canvas_end", "active")


class Report(NamedTuple):
    """The numbers `(fields, n)` on their way to the host, what to wait for, and which report it is."""

    numbers: Tensor
    arrival: "torch.cuda.Event | None"
    ordinal: int


class Begun(NamedTuple):
    """Rows that sequences may feed and score which began after the report `ordinal` had been sent."""

    ordinal: int
    rows: int
    scored: int


class Books:
    """The last report, and what has begun since."""

    def __init__(self) -> None:
        """Know of nobody."""
        self._numbers = torch.zeros(len(FIELDS), 0, dtype=torch.int64)
        self._begun: list[Begun] = []  # what the last report read does not know
        self._sent = 0

    def send(self, slots: Slots) -> Report:
        """Start to copy what the host needs to know."""
        self._sent += 1
        numbers = torch.stack([getattr(slots, name).long() for name in FIELDS])
        if numbers.device.type != "cuda":
            return Report(numbers, None, self._sent)
        here = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        here.copy_(numbers, non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record()
        return Report(here, arrival, self._sent)

    def receive(self, report: Report) -> None:
        """Wait for a report to arrive, and keep it."""
        if report.arrival is not None:
            report.arrival.synchronize()
        self._numbers = report.numbers
        self._begun = [begun for begun in self._begun if begun.ordinal >= report.ordinal]

    def _column(self, name: str) -> Tensor:
        return self._numbers[FIELDS.index(name)]

    def begin(self, starts: Sequence[Start]) -> None:
        """Take note of sequences that begin, or go on after an interruption."""
        rooms = (
            min(start.request.max_length, len(start.pages) * KEY_CHUNK) - start.cached
            for start in starts
        )
        scored = sum(start.request.block for start in starts)
        self._begun.append(Begun(self._sent, sum(rooms), scored))

    def bound(self, row_budget: int, is_full: bool, row_tile: int) -> tuple[int, int]:
        """Return how many rows the next pass may feed and score at most, rounded up to few sizes.

        Args:
            row_budget: of the engine.
            is_full: whether sequences may feed their whole canvas.
            row_tile: of which both are multiples.
        """
        active = self._column("active").bool()
        block, canvas = self._column("block"), self._column("canvas_end")
        # One block more than the report says: the sequence may have moved on.
        rows = canvas if is_full else self._column("start") - self._column("cached") + 2 * block
        largest = int(canvas[active].max()) if active.any() else 0
        begun = sum(one.rows for one in self._begun)
        fed = int(rows[active].sum()) + begun
        scored = int(block[active].sum()) + sum(one.scored for one in self._begun)
        fed = min(fed, row_budget + max(largest, begun))
        return _size(fed, row_tile), _size(scored, row_tile)

    def lengths(self, slots: Slots | None, interrupted: Sequence[int]) -> dict[int, int]:
        """Return how many positions interrupted sequences need pages for, from the state itself."""
        if slots is None or not interrupted:
            return {}
        wanted = _next_block_end(slots.start, slots.block, slots.canvas_end).tolist()
        return {slot: wanted[slot] for slot in interrupted}

    def short(self, running: Mapping[int, Running]) -> dict[int, int]:
        """Return how many positions sequences need pages for that have too few of them.

        That is up to the end of the block after the current one.
        """
        wanted = _next_block_end(*map(self._column, ("start", "block", "canvas_end")))
        crosses = (wanted - 1) // KEY_CHUNK != (self._column("start") - 1) // KEY_CHUNK
        near = (crosses & (self._column("active") > 0)).nonzero()[:, 0].tolist()
        lengths = {slot: int(wanted[slot]) for slot in near if self.knows(slot, running)}
        return {s: n for s, n in lengths.items() if num_pages(n) > len(running[s].pages)}

    def knows(self, slot: int, running: Mapping[int, Running]) -> bool:
        """Say whether the report is about the request that runs in a slot now, not one before it."""
        if slot not in running or slot >= self._numbers.shape[1]:
            return False
        return int(self._column("number")[slot]) == running[slot].request.number

    def done(self, running: Mapping[int, Running]) -> list[int]:
        """Return the slots whose sequences have ended."""
        ended = self._column("num_response").nonzero()[:, 0].tolist()
        return [slot for slot in ended if self.knows(slot, running)]

    def has_fed(self, slot: int, running: Mapping[int, Running]) -> bool:
        """Say whether a sequence has fed its prompt."""
        return self.knows(slot, running) and bool(self._column("step")[slot])

    def end_of(self, slot: int, first: int) -> int:
        """Return up to where a response that starts at `first` is decided for good."""
        length = int(self._column("num_response")[slot])
        return first + length if length > 0 else int(self._column("start")[slot])


def read_committed(slots: Slots, books: Books, running: Mapping[int, Running]) -> dict[int, int]:
    """Copy new tokens of finished blocks to the host, for requests that stream or have stop texts.

    Args:
        slots: the state.
        books: what the host has of it.
        running: slot to request; `committed` of each is extended.

    Returns:
        Slot to how many tokens `committed` held before, where there are new ones.
    """
    fresh: dict[int, int] = {}
    for slot, run in running.items():
        request, num_read = run.request, len(run.committed)
        if not (request.streams or request.sampling.stop) or not books.knows(slot, running):
            continue
        first = len(request.prompt.token_ids)
        end = min(books.end_of(slot, first), first + request.sampling.max_tokens)
        if end > first + num_read:
            run.committed += slots.tokens[slot, first + num_read : end].tolist()
            fresh[slot] = num_read
    return fresh


def _next_block_end(start: Tensor, block: Tensor, canvas_end: Tensor) -> Tensor:
    """Return where the block after the current one ends: up to there a sequence needs pages."""
    return torch.minimum(start + 2 * block, canvas_end)


def _size(count: int, tile: int) -> int:
    """Round up to a power of two, or one and a half of one: few sizes, little padding."""
    size = tile
    while size < count:
        half_more = size * 3 // 2
        size = half_more if half_more >= count and half_more % tile == 0 else size * 2
    return size
