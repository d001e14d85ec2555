"""A job: the responses of one HTTP request, between the engine's thread and the reader's.

Slow readers do not hold the engine. The engine never waits for a reader: events pile up here, a reader
takes all of them at once, and what it then sends is one larger piece of text. A reader that falls further
behind than a bound loses its request.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.engine.events import Committed, Finished, Streams, Written
from unmask.engine.llm import Generation
from unmask.runs.trajectories import prompt_images
from unmask.sampling_params import SamplingParams
from unmask.server.errors import ApiError
from unmask.types import Prompt

Event = Written | Committed | Finished[Generation]
Batch = list[tuple[int, Event]]  # each with the index of its response


@dataclass(frozen=True, slots=True)
class Ask:
    """One response to write.

    Attributes:
        prompt: with `token_ids`.
        sampling: with `n` = 1 and the seed of this response.
    """

    prompt: Prompt
    sampling: SamplingParams


class Job:
    """Responses of one request, and the events that its reader has not taken.

    Belongs to the event loop's thread; the engine's thread reads `asks`, `streams` and `is_closed` only.

    Attributes:
        asks: the responses; events carry the index of theirs.
        streams: the events that the reader gets before the end.
        started: time of arrival, in seconds of the monotonic clock.
        num_open: responses that have not ended.
        image_bytes: size of its images, which are held until it ends.
        begun: indices of responses that have sent an event.
        is_closed: whether nothing more is read: it ended, or its reader left.
    """

    def __init__(
        self,
        asks: Sequence[Ask],
        streams: Streams | None,
        max_pending: int,
        started: float | None = None,
    ) -> None:
        """Start without events.

        Args:
            asks: at least one.
            streams: as the attribute.
            max_pending: events per response that may wait for the reader.
            started: time of arrival; now if not given.
        """
        self.asks = tuple(asks)
        self.streams: Streams | None = streams
        self.started = time.monotonic() if started is None else started
        self.num_open = len(self.asks)
        images = {image for ask in self.asks for image in prompt_images(ask.prompt)}
        self.image_bytes = sum(len(image.data) for image in images)
        self.begun: set[int] = set()
        self.is_closed = False
        self._max_pending = max_pending * len(self.asks)
        self._events: Batch = []
        self._error: ApiError | None = None
        self._wakes = asyncio.Event()

    def put(self, index: int, event: Event) -> bool:
        """Add an event of a response; return False if the reader is too far behind."""
        self._events.append((index, event))
        self.num_open -= isinstance(event, Finished)
        self._wakes.set()
        return len(self._events) <= self._max_pending

    def fail(self, error: ApiError) -> None:
        """End the job: its reader gets this error and no more events."""
        self._events.clear()
        self._error = error
        self._wakes.set()

    @property
    def has_events(self) -> bool:
        """Whether `take` returns or raises at once."""
        return bool(self._events) or self._error is not None

    async def take(self) -> Batch:
        """Wait for events and return all there are.

        Raises:
            ApiError: the job has failed.
        """
        await self._wakes.wait()
        self._wakes.clear()
        if self._error is not None:
            raise self._error
        taken, self._events = self._events, []
        return taken
