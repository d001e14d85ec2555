"""The scheduler: which requests run, at which sequence index, on which pages. First come, first served.

A request is admitted when a sequence index is free and there are pages for its prompt and its first
blocks; it takes more pages as it grows. When no page is left, the prefix index releases its own, and then
the youngest sequence is preempted: it gives its pages back, keeps its index, feeds its tokens again later
and continues as if it had never stopped. A single sequence always fits (`Engine.resolve` refuses requests
that do not), and the oldest is never preempted, so every request ends.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from unmask.engine.pages import PagePool, num_pages
from unmask.engine.prefix_cache import PrefixIndex, PrefixKey
from unmask.engine.request import Request
from unmask.types import Prompt, Revision


@dataclass(slots=True)
class Running:
    """A running request.

    Attributes:
        request: the request.
        pages: its pages, in order; none while it is preempted.
        feeds: the prefix that it computes for other requests too, until that is in the index.
        committed: response tokens of its finished blocks, if it streams or has stop texts.
        sent: response position to the denoising step of its last write in an event, if it streams its
            canvas.
        held: `(3, C)` fp64 token, denoising step and log-probability of each response position after the last
            tick that was read, if it may revise.
        revisions: earlier writes and re-maskings until then.
        earlier: the weights that were replaced while it ran: version, and denoising steps taken until then.
    """

    request: Request
    pages: list[int] = field(default_factory=list)
    feeds: PrefixKey | None = None
    committed: list[int] = field(default_factory=list)
    sent: dict[int, int] = field(default_factory=dict)
    held: Tensor | None = None
    revisions: list[Revision] = field(default_factory=list)
    earlier: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Start:
    """A sequence that starts, or resumes after preemption.

    Attributes:
        index: its row of the state.
        request: the request.
        pages: its pages.
        cached: tokens whose keys and values the pages hold already.
        copied: a page to copy into another before it is read: `(source, target)`.
        is_new: whether its state has to be initialised.
    """

    index: int
    request: Request
    pages: list[int]
    cached: int
    copied: tuple[int, int] | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Load:
    """How much of an engine is in use.

    Attributes:
        running: requests with a sequence index.
        waiting: requests without one.
        pages: pages of the cache that have an owner.
    """

    running: int
    waiting: int
    pages: int


class Scheduler:
    """Waiting and running requests, and their pages.

    Attributes:
        waiting: requests without a sequence index.
        running: sequence index to request.
        twins: sequence index of a twin to that of the sequence that it guides.
    """

    def __init__(self, pool: PagePool, max_sequences: int) -> None:
        """Start with every sequence index free."""
        self.pool = pool
        self.index = PrefixIndex(pool)
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Running] = {}
        self.twins: dict[int, int] = {}
        self._being_fed: set[bytes] = set()  # keys of pages
        self._free = list(range(max_sequences))[::-1]

    def add(self, request: Request) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def prompts(self) -> Iterator[Prompt]:
        """Yield the prompts of running requests."""
        yield from (run.request.prompt for run in self.running.values())

    def load(self) -> Load:
        """Return how much is in use."""
        return Load(len(self.running), len(self.waiting), self.pool.num_used)

    def preempted(self) -> list[int]:
        """Return the indices of preempted sequences, the oldest first."""
        ids = {index: run.request.id for index, run in self.running.items() if not run.pages}
        return sorted(ids, key=ids.__getitem__)

    def choose(self, lengths: dict[int, int]) -> list[Start]:
        """Admit as many sequences as there are indices and pages for, preempted ones first.

        Args:
            lengths: tokens that each preempted sequence needs room for.
        """
        starts: list[Start] = []
        for index in self.preempted():
            run = self.running[index]
            if not self._has_room(run.request, [lengths[index]], starts):
                return starts
            start = self._start(index, run.request, lengths[index], is_new=False)
            run.pages = start.pages
            starts.append(start)
        held: deque[Request] = deque()
        while self.waiting and self._free:
            request = self.waiting[0]
            # A running sequence is prefilling this prompt's next shared page: wait for it.
            if self.index.next_page(request.prefix) in self._being_fed:
                held.append(self.waiting.popleft())
                continue
            members = request.members
            lengths_of = [member.first_length for member in members]
            if len(self._free) < len(members) or not self._has_room(request, lengths_of, starts):
                break
            first = self._free[-1]
            for member, length in zip(members, lengths_of, strict=True):
                start = self._start(self._free.pop(), member, length, is_new=True)
                starts.append(start)
                self.running[start.index] = Running(member, start.pages)
                self._watch(self.running[start.index])
                if member.is_twin:
                    self.twins[start.index] = first
            self.waiting.popleft()
        self.waiting.extendleft(reversed(held))
        return starts

    def withdraw(self, starts: list[Start]) -> None:
        """Undo the last `choose`: its sequences wait as before."""
        for start in reversed(starts):
            run = self.running[start.index]
            if start.is_new and not run.request.is_twin:  # its twin goes with it
                self.finish([start.index])
                self.waiting.appendleft(run.request)
            elif run.request.is_twin:
                continue
            else:
                self._preempt(start.index)

    def _has_room(self, request: Request, lengths: list[int], starts: list[Start]) -> bool:
        """Return whether there are pages for sequences of `lengths`, and one more per running sequence.

        Args:
            request: its cached pages need no room.
            lengths: tokens it needs room for, in each of its sequences.
            starts: sequences chosen with it. While one of them has a page of the index to copy, the
                index releases none.
        """
        if self._can_take(request, lengths):
            return True
        if any(start.copied is not None for start in starts):
            return False
        self.index.release()
        return self._can_take(request, lengths)

    def _can_take(self, request: Request, lengths: list[int]) -> bool:
        num_active = sum(bool(run.pages) for run in self.running.values())
        num_cached = len(self.index.find(request.prefix).pages)
        wanted = sum(num_pages(length, self.pool.page_size) for length in lengths)
        return self.pool.can_take(wanted - num_cached + num_active)

    def _watch(self, run: Running) -> None:
        """Let other requests wait for the pages that a sequence is going to prefill."""
        prefix = run.request.prefix
        if self.index.next_page(prefix) is not None:
            run.feeds = prefix
            self._being_fed.update(prefix.pages)

    def _unwatch(self, run: Running) -> None:
        if run.feeds:
            self._being_fed.difference_update(run.feeds.pages)
        run.feeds = None

    def _start(self, index: int, request: Request, length: int, is_new: bool) -> Start:
        hit = self.index.find(request.prefix)
        self.pool.share(hit.pages)
        fresh = self.pool.take(num_pages(length, self.pool.page_size) - len(hit.pages))
        copied = None if hit.tail is None else (hit.tail, fresh[0])
        return Start(index, request, hit.pages + fresh, hit.length, copied, is_new)

    def grow(self, lengths: dict[int, int]) -> tuple[dict[int, list[int]], list[int]]:
        """Give running sequences the pages they need, the oldest first.

        Args:
            lengths: tokens that sequences need room for.

        Returns:
            Sequence index to all its pages where they changed, and the indices preempted to make room.
        """
        grown: dict[int, list[int]] = {}
        stopped: list[int] = []
        for index in sorted(lengths, key=lambda index: self.running[index].request.id):
            run = self.running[index]
            missing = num_pages(lengths[index], self.pool.page_size) - len(run.pages)
            if (
                missing <= 0 or not run.pages
            ):  # without pages it is preempted, and grows when it resumes
                continue
            stopped += self._make_room(missing, index)
            if run.pages:  # else it was the youngest itself
                run.pages += self.pool.take(missing)
                grown[index] = run.pages
        return {index: pages for index, pages in grown.items() if index not in stopped}, stopped

    def _make_room(self, count: int, index: int) -> list[int]:
        """Free pages for a sequence: those of the prefix index, then those of the youngest sequences.

        The sequence itself may be one of them.
        """
        if not self.pool.can_take(count):
            self.index.release()
        stopped: list[int] = []
        while not self.pool.can_take(count) and index not in stopped:
            with_pages = [i for i, run in self.running.items() if run.pages]
            youngest = max(with_pages, key=lambda i: self.running[i].request.id)
            self._preempt(youngest)
            self.index.release()  # pages that it shared with the index alone
            stopped.append(youngest)
        return stopped

    def record_version(self, version: int, steps: Sequence[int]) -> None:
        """Record the weights that wrote the running requests so far, before they are replaced.

        Args:
            version: of the weights.
            steps: denoising steps taken, by sequence index.
        """
        for index, run in self.running.items():
            run.earlier.append((version, steps[index]))

    def preempt_all(self) -> list[int]:
        """Preempt every sequence that has pages, and return their indices."""
        stopped = [index for index, run in self.running.items() if run.pages]
        for index in stopped:
            self._preempt(index)
        return stopped

    def _preempt(self, index: int) -> None:
        run = self.running[index]
        self.pool.give_back(run.pages)
        run.pages = []
        self._unwatch(run)

    def prefilling(self) -> list[int]:
        """Return the indices of sequences whose prompts are to be added to the prefix index."""
        if not self._being_fed:
            return []
        return [index for index, run in self.running.items() if run.feeds]

    def index_prefixes(self, indices: list[int]) -> None:
        """Add the prompts of sequences that have fed them to the prefix index."""
        for index in indices:
            run = self.running[index]
            assert run.feeds
            self.index.add(run.feeds, run.pages)
            self._unwatch(run)

    def finish(self, indices: list[int]) -> list[int]:
        """Free the indices and the pages of sequences that ended, and those of their twins, which are returned."""
        twins = [twin for twin, leader in self.twins.items() if leader in indices]
        for index in (*indices, *twins):
            self.twins.pop(index, None)
            run = self.running.pop(index)
            self._unwatch(run)
            self.pool.give_back(run.pages)
            self._free.append(index)
        return twins

    def drop(self, request_id: int) -> list[int]:
        """Remove one request; return its sequence indices if it was running.

        Raises:
            ValueError: if no such request waits or runs.
        """
        for request in self.waiting:
            if request.id == request_id:
                self.waiting.remove(request)
                return []
        for index, run in self.running.items():
            if run.request.id == request_id and not run.request.is_twin:
                return [index, *self.finish([index])]
        raise ValueError(f"request {request_id}: neither waiting nor running")

    def clear(self) -> None:
        """Remove every request and every shared prompt."""
        self.finish([index for index in self.running if index not in self.twins])
        self.waiting.clear()
        self.index.clear()
