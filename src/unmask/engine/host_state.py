"""The host's copy of per-sequence counters, at most one tick old.

After every tick the state sends one small tensor of counters to the host. On CUDA it is read one tick late,
while the next pass runs, so everything derived from it also holds for a state that is one tick, and hence
up to one block, further.

The size of a pass is bounded from these counters. A bound that is too large costs as much as real rows, so it
uses what one tick can change: a sequence that was fed whole has nothing behind its block unless it finished
one, and it finishes one only if the tick could reveal all masks that are left.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.unmask import ALLOWANCES
from unmask.engine.canvas_stream import Snapshot, new_writes, record_revisions
from unmask.engine.events import Written
from unmask.engine.pages import num_pages
from unmask.engine.request import Request
from unmask.engine.scheduler import Running, Start
from unmask.engine.sequence_state import SequenceState
from unmask.models.attention import KEY_CHUNK

FIELDS = (
    "request_id",
    "num_response",
    "step",
    "start",
    "cached",
    "block",
    "canvas_end",
    "active",
    "num_masks",
    "step_in_block",
)


class Report(NamedTuple):
    """The counters `(fields, n)`, the event that marks their arrival, and the number of the report.

    `snapshot` holds what streams after the same tick.
    """

    counters: Tensor
    arrival: "torch.cuda.Event | None"
    ordinal: int
    snapshot: Snapshot | None = None


class Begun(NamedTuple):
    """Most rows fed and scored by sequences that started after the report `ordinal` had been sent.

    Attributes:
        ordinal: of the report.
        rows: fed by all of them.
        largest: fed by one of them, with its twin.
        scored: by all of them.
    """

    ordinal: int
    rows: int
    largest: int
    scored: int


class HostState:
    """The last report, and the sequences that started since."""

    def __init__(self, page_size: int = KEY_CHUNK) -> None:
        """Start without a report; `page_size` is that of the cache."""
        self._page_size = page_size
        self._counters = torch.zeros(len(FIELDS), 0, dtype=torch.int64)
        self._begun: list[Begun] = []  # not in the last report yet
        self._sent = 0
        self._most_revealed: dict[int, int] = {}  # by sequence index: in one pass of its request
        self._all_fit = True  # in the last pass, within the row budget

    def send(self, state: SequenceState, snapshot: Snapshot | None = None) -> Report:
        """Start to copy the counters, and a snapshot if there is one, to the host."""
        self._sent += 1
        counters = _on_host(torch.stack([getattr(state, name).long() for name in FIELDS]))
        if snapshot:
            snapshot = snapshot._replace(columns=_on_host(snapshot.columns))
        if state.start.device.type != "cuda":
            return Report(counters, None, self._sent, snapshot)
        arrival = torch.cuda.Event()
        arrival.record()
        return Report(counters, arrival, self._sent, snapshot)

    def receive(self, report: Report) -> None:
        """Wait for a report to arrive and keep it."""
        if report.arrival is not None:
            report.arrival.synchronize()
        self._counters = report.counters
        self._begun = [begun for begun in self._begun if begun.ordinal >= report.ordinal]

    def _column(self, name: str) -> Tensor:
        return self._counters[FIELDS.index(name)]

    def begin(self, starts: Sequence[Start]) -> None:
        """Record sequences that start, or resume after preemption."""
        rooms = [
            min(start.request.max_length, len(start.pages) * self._page_size) - start.cached
            for start in starts
        ]
        largest = max(_together([start.request.id for start in starts], rooms))
        scored = sum(start.request.block for start in starts)
        self._most_revealed |= {start.index: most_revealed(start.request) for start in starts}
        self._begun.append(Begun(self._sent, sum(rooms), largest, scored))

    def bound(self, row_budget: int, is_full: bool, row_tile: int) -> tuple[int, int]:
        """Return upper bounds of the rows that the next pass feeds and scores, rounded up to few sizes.

        Call it once before every pass: it remembers whether all sequences fit the row budget.

        Args:
            row_budget: of the engine.
            is_full: whether sequences may feed their whole canvas.
            row_tile: both bounds are multiples of it.
        """
        active = self._column("active").bool()
        block, canvas = self._column("block"), self._column("canvas_end")
        masks, taken = self._column("num_masks"), self._column("step_in_block")
        most = [self._most_revealed.get(index, int(block.max())) for index in range(len(block))]
        # The tick since the report may have revealed the last masks of these blocks.
        may_finish = (taken + 1) * torch.tensor(most, dtype=torch.int64) >= masks
        # A finished block is fed once more, with the next one.
        behind = block * may_finish
        if not self._all_fit:  # it may have waited for its turn
            behind = torch.maximum(behind, self._column("start") - self._column("cached"))
        rows = canvas if is_full else block + behind
        # A pass that feeds a sequence reveals at least one position.
        hidden = torch.where(may_finish, block, masks - taken - int(self._all_fit))
        fed = int(rows[active].sum()) + sum(one.rows for one in self._begun)
        scored = int(hidden[active].sum()) + sum(one.scored for one in self._begun)
        self._all_fit = fed <= row_budget
        # Beyond the budget a pass feeds one sequence alone, with its twin if it has one.
        ids = self._column("request_id")[active].tolist()
        alone = _together(ids, canvas[active].tolist())
        largest = max([0, *alone, *(one.largest for one in self._begun)])
        fed = min(fed, max(row_budget, largest))
        return _size(fed, row_tile), _size(scored, row_tile)

    def lengths(self, state: SequenceState | None, preempted: Sequence[int]) -> dict[int, int]:
        """Return the number of positions that preempted sequences need pages for, from the state itself."""
        if state is None or not preempted:
            return {}
        wanted = _next_block_end(state.start, state.block, state.canvas_end).tolist()
        return {index: wanted[index] for index in preempted}

    def short(self, running: Mapping[int, Running]) -> dict[int, int]:
        """Return, for sequences with too few pages, the number of positions they need pages for.

        That is up to the end of the block after the current one.
        """
        wanted = _next_block_end(*map(self._column, ("start", "block", "canvas_end")))
        # A page boundary lies between the current block and that end.
        size = self._page_size
        crosses = (wanted - 1) // size != (self._column("start") - 1) // size
        near = (crosses & (self._column("active") > 0)).nonzero()[:, 0].tolist()
        lengths = {index: int(wanted[index]) for index in near if self.is_current(index, running)}
        return {i: n for i, n in lengths.items() if num_pages(n, size) > len(running[i].pages)}

    def is_current(self, index: int, running: Mapping[int, Running]) -> bool:
        """Return whether the report is of the request that runs at an index now, not of an earlier one."""
        if index not in running or index >= self._counters.shape[1]:
            return False
        return int(self._column("request_id")[index]) == running[index].request.id

    def done(self, running: Mapping[int, Running]) -> list[int]:
        """Return the indices of sequences that have ended."""
        ended = self._column("num_response").nonzero()[:, 0].tolist()  # also -1: broken logits
        return [index for index in ended if self.is_current(index, running)]

    def has_fed(self, index: int, running: Mapping[int, Running]) -> bool:
        """Return whether a sequence has fed its prompt."""
        return self.is_current(index, running) and bool(self._column("step")[index])

    def is_broken(self, index: int) -> bool:
        """Return whether the logits of a sequence were not finite."""
        return int(self._column("num_response")[index]) < 0

    def start_of(self, index: int) -> int:
        """Return the first position of a sequence's current block."""
        return int(self._column("start")[index])

    def end_of(self, index: int, first: int) -> int:
        """Return the end of the committed positions of a response that starts at `first`."""
        length = int(self._column("num_response")[index])
        return first + length if length > 0 else self.start_of(index)


def most_revealed(request: Request) -> int:
    """Return an upper bound of the masks that one pass of a request reveals, its block where none is lower."""
    sampling, block = request.sampling, request.block
    steps = min(sampling.denoising_steps or block, block)
    is_fixed = sampling.strategy not in ALLOWANCES and sampling.schedule in ("even", "block")
    return -(-block // steps) if is_fixed and not sampling.revises else block


def read_committed(
    state: SequenceState, host: HostState, running: Mapping[int, Running]
) -> dict[int, int]:
    """Copy new tokens of finished blocks to the host, for requests that stream or have stop texts.

    Args:
        state: the running sequences.
        host: their counters.
        running: sequence index to request; `committed` of each is extended.

    Returns:
        Sequence index to the number of tokens that `committed` held before, where there are new ones.
    """
    fresh: dict[int, int] = {}
    for index, run in running.items():
        request, num_read = run.request, len(run.committed)
        if not (request.streams or request.sampling.stop) or not host.is_current(index, running):
            continue
        first = len(request.prompt.token_ids)
        end = min(host.end_of(index, first), first + request.sampling.max_tokens)
        if end > first + num_read:
            run.committed += state.tokens[index, first + num_read : end].tolist()
            fresh[index] = num_read
    return fresh


def read_written(
    snapshot: Snapshot | None, host: HostState, running: Mapping[int, Running]
) -> list[Written | None]:
    """Return the writes of a tick, for requests that stream their canvas; `None` where there are none.

    What it revised is recorded with each request that may revise.

    Args:
        snapshot: of the report that the host has received last, if any request needed one then.
        host: the counters.
        running: sequence index to request; `sent` and `revisions` of each are extended.
    """
    written: list[Written | None] = []
    if snapshot is None:
        return written
    for row, index in enumerate(snapshot.indices):
        if not host.is_current(index, running) or host.is_broken(index):
            continue
        request, start = running[index].request, host.start_of(index)
        num_prompt, before = len(request.prompt.token_ids), start - request.block
        first = max(before, num_prompt)
        end = min(start + request.block, request.max_length)
        # The snapshot begins with the block before the current one.
        columns = snapshot.columns[:, row, first - before : end - before]
        if request.sampling.revises:
            record_revisions(running[index], first - num_prompt, columns)
        if request.streams == "canvas":
            written.append(new_writes(running[index], first - num_prompt, columns.tolist()))
    return written


def _together(ids: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Return the positions of each request, in all its sequences."""
    sums: Counter[int] = Counter()
    for number, length in zip(ids, lengths, strict=True):
        sums[number] += length
    return list(sums.values())


def _on_host(tensor: Tensor) -> Tensor:
    """Return a tensor of the device on the host; on CUDA, the copy is queued and not waited for."""
    if tensor.device.type != "cuda":
        return tensor
    here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    here.copy_(tensor, non_blocking=True)
    return here


def _next_block_end(start: Tensor, block: Tensor, canvas_end: Tensor) -> Tensor:
    """Return the end of the block after the current one: a sequence needs pages up to there."""
    return torch.minimum(start + 2 * block, canvas_end)


def _size(count: int, tile: int) -> int:
    """Round up to a power of two times `tile`, or one and a half of that: few sizes, little padding."""
    size = tile
    while size < count:
        half_more = size * 3 // 2
        size = half_more if half_more >= count and half_more % tile == 0 else size * 2
    return size
