"""`/metrics`: counters of the server in Prometheus' text format.

Gauges are read from the engine when they are asked for, counters are incremented in the event loop's
thread, except the number of passes.
"""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from unmask.engine.engine import Engine
from unmask.engine.events import Committed, Written
from unmask.engine.llm import Generation
from unmask.server.job import Event, Job

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
TOKENS = (0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 32)


class Metrics:
    """The counters of one server."""

    def __init__(self, engine: Engine) -> None:
        """Start at zero."""
        self._registry = registry = CollectorRegistry()
        self._prompt_tokens = Counter(
            "unmask_prompt_tokens", "Prompt tokens of responses that ended.", registry=registry
        )
        self._response_tokens = Counter(
            "unmask_response_tokens", "Tokens of responses that ended.", registry=registry
        )
        self._passes = Counter(
            "unmask_forward_passes", "Forward passes of the engine.", registry=registry
        )
        self._responses = Counter(
            "unmask_responses",
            "Responses by how they ended: stop, length, error, aborted.",
            ["finish"],
            registry=registry,
        )
        self._answers = Counter(
            "unmask_http_answers", "HTTP answers.", ["path", "status"], registry=registry
        )
        self._tokens_per_forward = Histogram(
            "unmask_tokens_per_forward",
            "Response tokens per forward pass that a response took part in.",
            buckets=TOKENS,
            registry=registry,
        )
        self._seconds = Histogram(
            "unmask_response_seconds",
            "Seconds from the arrival of a request to the end of a response.",
            buckets=SECONDS,
            registry=registry,
        )
        self._first_block = Histogram(
            "unmask_first_block_seconds",
            "Seconds from the arrival of a streaming request to the first tokens of a response.",
            buckets=SECONDS,
            registry=registry,
        )
        loads = {
            "unmask_responses_running": ("Responses being written.", lambda: engine.load.running),
            "unmask_responses_waiting": ("Responses that wait.", lambda: engine.load.waiting),
            "unmask_pages_used": (
                "Pages of the cache held by responses and shared prompts.",
                lambda: engine.load.pages,
            ),
        }
        for name, (sentence, read) in loads.items():
            Gauge(name, sentence, registry=registry).set_function(read)

    def observe(self, job: Job, index: int, event: Event) -> None:
        """Count an event of a response."""
        seconds = time.monotonic() - job.started
        if isinstance(event, Written):
            return
        if job.streams and index not in job.begun:
            job.begun.add(index)
            self._first_block.observe(seconds)
        if isinstance(event, Committed):
            return
        if isinstance(event.result, Generation):
            self._prompt_tokens.inc(len(job.asks[index].prompt.token_ids))
            self._response_tokens.inc(len(event.result.token_ids))
            self._tokens_per_forward.observe(event.result.tokens_per_forward)
            self._seconds.observe(seconds)
        finish = event.result.finish if isinstance(event.result, Generation) else "error"
        self._responses.labels(finish).inc()

    def aborted(self, count: int) -> None:
        """Count responses whose reader left."""
        self._responses.labels("aborted").inc(count)

    def ticked(self) -> None:
        """Count a forward pass."""
        self._passes.inc()

    def answered(self, path: str, status: int) -> None:
        """Count an HTTP answer."""
        self._answers.labels(path, str(status)).inc()

    def text(self) -> bytes:
        """Return all values in Prometheus' text format."""
        return generate_latest(self._registry)
