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

    def admit(self) -> list[Request]:
        """Move as many waiting requests as there are free pages to the running ones, and return them."""
        admitted: list[Request] = []
        while self.waiting and self._free:
            admitted.append(replace(self.waiting.popleft(), page=self._free.pop()))
        self.running += admitted
        return admitted

    def finish(self, indices: list[int]) -> list[Request]:
        """Remove the running requests at `indices` (ascending), free their pages, and return them."""
        finished = [self.running[index] for index in indices]
        gone = set(indices)
        self.running = [r for index, r in enumerate(self.running) if index not in gone]
        self._free += [request.page for request in finished]
        return finished
