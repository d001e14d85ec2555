"""The engine's own thread: jobs in, events out.

The event loop's thread calls the public methods, which queue commands. The engine's thread takes them
between ticks, and hands the events of a tick over in one call. Nothing else touches the engine.

An error of one response (its logits are not finite) ends that response. An exception of a tick ends all
running ones, and the engine is reset. New weights are copied when no response runs; jobs that arrive in
the meantime wait.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread

from torch import Tensor

from unmask.engine.events import Finished
from unmask.engine.llm import LLM
from unmask.server.errors import ApiError
from unmask.server.job import Event, Job
from unmask.server.metrics import Metrics

Delivery = tuple[Job, int, Event]  # the index is that of the response
RETRY_SECONDS = "1"
# Of images in open jobs, as files: 512 requests of the default size would be 8 GiB.
MOST_OPEN_BYTES = 2**30


class EngineThread:
    """Runs an `LLM` in a thread of its own.

    Attributes:
        llm: used by this thread only, except for its tokenizer and `engine.resolve`.
        metrics: what is counted.
        max_open: most responses that may run and wait.
        num_open: responses that run or wait.
        image_bytes: size of the images of open jobs.
    """

    def __init__(self, llm: LLM, max_waiting: int, metrics: Metrics) -> None:
        """Prepare the thread; `start` starts it.

        Args:
            llm: with an idle engine.
            max_waiting: responses that may wait while all sequences run.
            metrics: what is counted.
        """
        self.llm, self.metrics = llm, metrics
        self.max_open = llm.engine.params.max_sequences + max_waiting
        self.num_open = self.image_bytes = 0
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = Thread(target=self._run, name="unmask engine", daemon=True)
        # Of the engine's thread:
        self._running: dict[int, tuple[Job, int]] = {}  # by request id
        self._updates: list[Callable[[], None]] = []
        self._held: list[Job] = []  # arrived while an update waits
        self._is_stopping = False

    # ---- called by the event loop's thread

    def start(self) -> None:
        """Start the thread; events are delivered to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Drop all jobs and wait for the thread to end."""
        self._commands.put(self._stop)
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            ApiError: 429 if too many responses or images wait, 503 if the thread has ended.
        """
        if not self.is_alive:
            raise ApiError(503, "the engine has stopped", code="engine_stopped")
        if self.num_open + len(job.asks) > self.max_open:
            raise ApiError(
                429,
                f"the queue is full: {self.num_open} responses run or wait, of {self.max_open} at most",
                code="queue_full",
                headers={"Retry-After": RETRY_SECONDS},
            )
        if job.image_bytes and self.image_bytes + job.image_bytes > MOST_OPEN_BYTES:
            raise ApiError(
                429,
                f"the queue is full: images of {self.image_bytes >> 20} MiB are read, of "
                f"{MOST_OPEN_BYTES >> 20} at most",
                code="queue_full",
                headers={"Retry-After": RETRY_SECONDS},
            )
        self.num_open += len(job.asks)
        self.image_bytes += job.image_bytes
        self._commands.put(partial(self._submit, job))

    def close(self, job: Job) -> None:
        """End a job: its responses that still run are dropped, and their pages are freed."""
        if job.is_closed:
            return
        job.is_closed = True
        self.num_open -= job.num_open
        self.image_bytes -= job.image_bytes
        if job.num_open:
            self.metrics.aborted(job.num_open)
            self._commands.put(partial(self._drop, job))

    async def update_weights(self, weights: Mapping[str, Tensor], version: int | None) -> int:
        """Copy weights into the model once no response runs; return the new policy version.

        Raises:
            ValueError: as `Engine.update_weights`.
        """
        done = self._loop.create_future()
        self._commands.put(
            lambda: self._updates.append(partial(self._update, weights, version, done))
        )
        return await done

    def _deliver(self, batch: list[Delivery]) -> None:
        for job, index, event in batch:
            if job.is_closed:
                continue
            self.num_open -= isinstance(event, Finished)
            self.metrics.observe(job, index, event)
            if not job.put(index, event):
                self.close(job)
                job.fail(ApiError(503, "the answer was read too slowly", code="slow_reader"))

    # ---- run by the engine's thread

    def _run(self) -> None:
        while not self._is_stopping:
            self._take_commands()
            if self.llm.engine.is_idle:
                self._run_updates()
            else:
                self._tick()

    def _take_commands(self) -> None:
        """Run the queued commands; wait for one if there is nothing else to do."""
        waits = self.llm.engine.is_idle and not self._updates
        while True:
            try:
                command = self._commands.get(block=waits)
            except Empty:
                return
            self._guarded(command)
            waits = False

    def _guarded(self, command: Callable[[], None]) -> None:
        """Run a command; an exception ends what runs, and not the thread."""
        try:
            command()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._fail_all(error)

    def _run_updates(self) -> None:
        for update in self._updates:
            update()
        self._updates.clear()
        held, self._held = self._held, []
        for job in held:
            self._guarded(partial(self._submit, job))

    def _tick(self) -> None:
        try:
            events = self.llm.tick()
        except Exception as error:  # of torch: out of memory, a kernel that fails
            traceback.print_exc(file=sys.stderr)
            self._fail_all(error)
            return
        self.metrics.ticked()
        batch: list[Delivery] = []
        for event in events:
            is_last = isinstance(event, Finished)
            found = self._running.pop if is_last else self._running.__getitem__
            batch.append((*found(event.request_id), event))
        self._hand_over(batch)

    def _fail_all(self, error: Exception) -> None:
        """Reset the engine; every running response ends with an error."""
        self.llm.abort()
        failed = _for_readers(error)
        running, self._running = self._running, {}
        self._hand_over([(*of, Finished(number, failed)) for number, of in running.items()])

    def _submit(self, job: Job) -> None:
        if self._updates:
            self._held.append(job)
        elif not job.is_closed:
            for index, ask in enumerate(job.asks):
                try:
                    request_id = self.llm.engine.submit(ask.prompt, ask.sampling, job.streams)
                except Exception as error:  # of an automaton that is built again: time, memory
                    traceback.print_exc(file=sys.stderr)
                    self._hand_over([(job, index, Finished(-1, _for_readers(error)))])
                else:
                    self._running[request_id] = (job, index)

    def _drop(self, job: Job) -> None:
        for request_id in [number for number, (of, _) in self._running.items() if of is job]:
            del self._running[request_id]
            self.llm.abort(request_id)

    def _update(
        self, weights: Mapping[str, Tensor], version: int | None, done: asyncio.Future[int]
    ) -> None:
        try:
            self.llm.engine.update_weights(weights.items(), version)
        except Exception as error:  # of shapes, or of torch: out of memory
            self._loop.call_soon_threadsafe(_settle, done, _for_readers(error))
        else:
            self._loop.call_soon_threadsafe(_settle, done, self.llm.engine.policy_version)

    def _hand_over(self, batch: list[Delivery]) -> None:
        if batch:
            self._loop.call_soon_threadsafe(self._deliver, batch)

    def _stop(self) -> None:
        self._is_stopping = True
        self._running.clear()
        self.llm.abort()


def _for_readers(error: Exception) -> ValueError:
    """Return an error without what only the log of the server may hold."""
    if isinstance(error, ValueError):
        return error
    return ValueError(f"the engine failed ({type(error).__name__}); send the request again")


def _settle(done: asyncio.Future[int], result: int | ValueError) -> None:
    """Set a future, unless its reader has left."""
    if done.cancelled():
        return
    if isinstance(result, ValueError):
        done.set_exception(result)
    else:
        done.set_result(result)
