"""The scheduler: which requests run, in which slot, on which pages. First come, first served.

A request is let in when a slot is free and there are pages for its prompt and its first blocks, and
grows page by page as it writes. When none is left, the index of shared prompts gives up its own, and
then the youngest sequence gives its pages back and waits in its slot; it feeds its text again later
and goes on as if nothing had happened. One sequence alone always fits (`Engine.resolve` refuses what
does not), and the oldest is never interrupted, so every request ends.
"""

from collections import deque
from dataclasses import dataclass, field

from unmask.engine.pages import PagePool, num_pages
from unmask.engine.prefix_cache import NOTHING, Beginning, Opening, PrefixIndex
from unmask.engine.request import Request


@dataclass(slots=True)
class Running:
    """A request in a slot.

    Attributes:
        request: what is written.
        pages: its pages, in order; none while it is interrupted.
        feeds: the opening that it feeds for others as well, until that is in the index.
        committed: response tokens of its finished blocks, if it streams or has stop texts.
    """

    request: Request
    pages: list[int] = field(default_factory=list)
    feeds: Opening | None = None
    committed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Start:
    """A sequence that begins, or goes on after an interruption.

    Attributes:
        slot: where its state stands.
        request: what is written.
        pages: its pages.
        cached: tokens whose keys and values they hold already.
        copied: a page to copy into another before it is read: `(source, target)`.
        is_new: whether its state is still to be laid out.
    """

    slot: int
    request: Request
    pages: list[int]
    cached: int
    copied: tuple[int, int] | None
    is_new: bool


class Scheduler:
    """Waiting and running requests, and whose the pages are.

    Attributes:
        waiting: requests without a slot.
        running: slot to request.
    """

    def __init__(self, pool: PagePool, max_slots: int) -> None:
        """Start with every slot free."""
        self.pool = pool
        self.index = PrefixIndex(pool)
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Running] = {}
        self._being_fed: set[bytes] = set()  # names of pages
        self._free = list(range(max_slots))[::-1]

    def add(self, request: Request) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def interrupted(self) -> list[int]:
        """Return the slots of interrupted sequences, the oldest first."""
        slots = [slot for slot, run in self.running.items() if not run.pages]
        return sorted(slots, key=lambda slot: self.running[slot].request.number)

    def choose(self, lengths: dict[int, int]) -> list[Start]:
        """Let in as many sequences as there are slots and pages for, interrupted ones first.

        Args:
            lengths: tokens that each interrupted sequence needs room for.
        """
        starts: list[Start] = []
        for slot in self.interrupted():
            run = self.running[slot]
            if not self._has_room(run.request, lengths[slot], starts):
                return starts
            start = self._start(slot, run.request, lengths[slot], is_new=False)
            run.pages = start.pages
            starts.append(start)
        held: deque[Request] = deque()
        while self.waiting and self._free:
            request = self.waiting[0]
            if self._gains_by_waiting(request):
                held.append(self.waiting.popleft())
                continue
            if not self._has_room(request, request.first_length, starts):
                break
            start = self._start(self._free.pop(), request, request.first_length, is_new=True)
            starts.append(start)
            self.running[start.slot] = Running(request, start.pages)
            self._watch(self.running[start.slot])
            self.waiting.popleft()
        self.waiting.extendleft(reversed(held))
        return starts

    def withdraw(self, starts: list[Start]) -> None:
        """Take back what `choose` returned last: the sequences wait as before."""
        for start in reversed(starts):
            run = self.running[start.slot]
            if start.is_new:
                self.finish([start.slot])
                self.waiting.appendleft(run.request)
            else:
                self._interrupt(start.slot)

    def _known(self, request: Request) -> Beginning:
        return self.index.find(request.opening) if request.opening else NOTHING

    def _gains_by_waiting(self, request: Request) -> bool:
        """Say whether somebody is computing what comes next in the beginning of this one's prompt."""
        return bool(request.opening) and self.index.next_name(request.opening) in self._being_fed

    def _has_room(self, request: Request, length: int, starts: list[Start]) -> bool:
        """Say whether there are pages for `length` tokens of a request, and one more for each that runs.

        Args:
            request: whose known pages are there already.
            length: of what it needs room for.
            starts: what was chosen with it; while one of them waits to copy a page of the index, that
                gives up none to make room.
        """
        if self._can_take(request, length):
            return True
        if any(start.copied is not None for start in starts):
            return False
        self.index.release()
        return self._can_take(request, length)

    def _can_take(self, request: Request, length: int) -> bool:
        active = sum(bool(run.pages) for run in self.running.values())
        known = len(self._known(request).pages)
        return self.pool.can_take(num_pages(length) - known + active)

    def _watch(self, run: Running) -> None:
        """Let others wait for what a sequence has yet to feed of its prompt."""
        opening = run.request.opening
        if opening and self.index.next_name(opening) is not None:
            run.feeds = opening
            self._being_fed.update(opening.names)

    def _unwatch(self, run: Running) -> None:
        if run.feeds:
            self._being_fed.difference_update(run.feeds.names)
        run.feeds = None

    def _start(self, slot: int, request: Request, length: int, is_new: bool) -> Start:
        known = self._known(request)
        self.pool.share(known.pages)
        fresh = self.pool.take(num_pages(length) - len(known.pages))
        copied = None if known.tail is None else (known.tail, fresh[0])
        return Start(slot, request, known.pages + fresh, known.length, copied, is_new)

    def grow(self, lengths: dict[int, int]) -> tuple[dict[int, list[int]], list[int]]:
        """Give running sequences the pages they need, the oldest first.

        Args:
            lengths: tokens that sequences need room for.

        Returns:
            Slot to all its pages where they changed, and the slots interrupted to make room.
        """
        grown: dict[int, list[int]] = {}
        stopped: list[int] = []
        short = [
            slot
            for slot, length in lengths.items()
            if self.running[slot].pages and num_pages(length) > len(self.running[slot].pages)
        ]
        for slot in sorted(short, key=lambda slot: self.running[slot].request.number):
            run = self.running[slot]
            missing = num_pages(lengths[slot]) - len(run.pages)
            if slot in stopped:
                continue
            stopped += self._make_room(missing, slot)
            if slot not in stopped:
                run.pages += self.pool.take(missing)
                grown[slot] = run.pages
        return {slot: pages for slot, pages in grown.items() if slot not in stopped}, stopped

    def _make_room(self, count: int, slot: int) -> list[int]:
        """Free pages for a sequence: the index's, then those of the youngest, itself included."""
        if not self.pool.can_take(count):
            self.index.release()
        stopped: list[int] = []
        while not self.pool.can_take(count) and slot not in stopped:
            with_pages = [s for s, run in self.running.items() if run.pages]
            youngest = max(with_pages, key=lambda s: self.running[s].request.number)
            self._interrupt(youngest)
            self.index.release()  # what it shared is nobody's now
            stopped.append(youngest)
        return stopped

    def _interrupt(self, slot: int) -> None:
        run = self.running[slot]
        self.pool.give_back(run.pages)
        run.pages = []
        self._unwatch(run)

    def unpublished(self) -> list[int]:
        """Return the slots whose prompts others wait for."""
        if not self._being_fed:
            return []
        return [slot for slot, run in self.running.items() if run.feeds]

    def publish(self, slots: list[int]) -> None:
        """Remember the prompts of sequences that have fed them."""
        for slot in slots:
            run = self.running[slot]
            if run.feeds:
                self.index.add(run.feeds, run.pages)
                self._unwatch(run)

    def finish(self, slots: list[int]) -> list[Request]:
        """Free the slots and the pages of sequences that ended, and return their requests."""
        finished = [self.running.pop(slot) for slot in slots]
        for slot, run in zip(slots, finished, strict=True):
            self._unwatch(run)
            self.pool.give_back(run.pages)
            self._free.append(slot)
        return [run.request for run in finished]

    def drop(self, number: int) -> int | None:
        """Forget one request; return the slot it ran in, if it ran.

        Raises:
            ValueError: if no request of that number waits or runs.
        """
        for request in self.waiting:
            if request.number == number:
                self.waiting.remove(request)
                return None
        for slot, run in self.running.items():
            if run.request.number == number:
                self.finish([slot])
                return slot
        raise ValueError(f"request {number}: neither waiting nor running")

    def clear(self) -> None:
        """Forget every request and every shared prompt."""
        self.finish(list(self.running))
        self.waiting.clear()
        self.index.clear()
