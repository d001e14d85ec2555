"""The scheduler: which requests run, first come first served, one page of the cache each."""

from collections import deque
from dataclasses import replace

from unmask.engine.pages import SCRAP
from unmask.engine.request import Request


class Scheduler:
    """Waiting requests, running requests and free pages."""

    def __init__(self, num_pages: int) -> None:
        """Start with every page free."""
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        # Popped from the end: low page numbers first, so that a small batch touches little memory.
        self._free = list(range(SCRAP + 1, SCRAP + 1 + num_pages))[::-1]

    def add(self, request: Request) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def choose(self) -> list[Request]:
        """Return the waiting requests that a page is free for, each with its page; nothing changes yet."""
        pairs = zip(self.waiting, reversed(self._free), strict=False)
        return [replace(request, page=page) for request, page in pairs]

    def admit(self, chosen: list[Request]) -> None:
        """Let the requests run that `choose` returned last."""
        for _ in chosen:
            self.waiting.popleft()
            self._free.pop()
        self.running += chosen

    def finish(self, indices: list[int]) -> list[Request]:
        """Remove the running requests at `indices` (ascending), free their pages, and return them."""
        finished = [self.running[index] for index in indices]
        gone = set(indices)
        self.running = [r for index, r in enumerate(self.running) if index not in gone]
        self._free += [request.page for request in finished]
        return finished
