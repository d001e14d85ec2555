"""The engine: requests in, trajectories out, many at a time.

One tick: the scheduler admits requests, the runner makes the logits of every hidden slot of every
running sequence in one forward pass, `advance` reveals tokens and moves on, and sequences that
ended leave as trajectories. Sequences of different lengths and phases share a tick. The result of a
request does not depend on its company: on CPU in fp32 it equals the reference sampler's
(`diffusion/sample.py`) to the bit.
"""

from collections.abc import Iterator

import torch

from unmask.diffusion.sample import Alphabet
from unmask.engine.pages import PagePool
from unmask.engine.params import EngineParams
from unmask.engine.request import Request, resolve
from unmask.engine.runner import Runner
from unmask.engine.scheduler import Scheduler
from unmask.engine.slots import Ends, Slots, advance, hidden_slots, join, open_slots
from unmask.models.transformer import Model
from unmask.types import Prompt, SamplingParams, Trajectory


class Engine:
    """Writes the responses of many requests at once.

    Attributes:
        model: the module it samples from; the learner may share it.
        policy_version: how many weight syncs made the weights.
    """

    def __init__(self, model: Model, params: EngineParams | None = None) -> None:
        """Build an empty engine around a model.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        params = params or EngineParams()
        self.model = model
        self.policy_version = 0
        self._fuses_commit = params.fuses_commit
        self._alphabet = Alphabet(model.spec.require_mask_id(), model.head.drawable)
        self._max_slots = params.max_slots
        self._scheduler = Scheduler(params.max_slots)
        self._pages = PagePool(model)
        self._runner = Runner(model, self._pages, params.fuses_commit)
        self._slots: Slots | None = None
        self._num_requests = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request waits or runs."""
        return not self._scheduler.running and not self._scheduler.waiting

    def submit(self, prompt: Prompt, sampling: SamplingParams) -> int:
        """Queue one response and return its number.

        Args:
            prompt: with `token_ids` filled in.
            sampling: `n` must be 1: several responses are several requests with seeds of their own.

        Raises:
            ValueError: if prompt and response do not fit the model.
        """
        assert sampling.n == 1
        number = self._num_requests
        resolved = resolve(prompt, sampling, self.model.spec)
        self._scheduler.add(Request(number, prompt, resolved))
        self._num_requests += 1
        return number

    def collect(self) -> Iterator[tuple[int, Trajectory]]:
        """Run until idle, yielding `(number, trajectory)` as responses end."""
        while not self.is_idle:
            yield from self.tick()

    @torch.inference_mode()
    def tick(self) -> list[tuple[int, Trajectory]]:
        """Take one forward pass and return what it finished."""
        self._admit()
        slots = self._slots
        if slots is None:
            return []
        hidden = hidden_slots(slots, self._fuses_commit)
        slots, ends = advance(slots, self._runner.forward(slots, hidden), hidden, self._alphabet)
        return self._retire(slots, ends)

    def abort(self) -> None:
        """Drop every request, waiting or running; the engine is then as good as new.

        The way out after an exception: one that came from outside, such as KeyboardInterrupt, may
        have struck between two changes that belong together.
        """
        self._slots = None
        self._scheduler = Scheduler(self._max_slots)

    def update_weights(self) -> None:
        """Take note that the shared module's weights have changed; nothing of the old ones may be cached.

        Raises:
            ValueError: if requests are still running: they would be written by two policies.
        """
        if not self.is_idle:
            raise ValueError("update_weights while requests are running: collect them first")
        self.policy_version += 1

    def _admit(self) -> None:
        chosen = self._scheduler.choose()
        if not chosen:
            return
        self._pages.reserve(
            max(request.page for request in chosen) + 1,
            max(request.max_length for request in chosen),
        )
        slots = open_slots(chosen, self._alphabet.mask_id, self.model.device)
        if self._slots is not None:
            slots = join(self._slots, slots, self._alphabet.mask_id)
        # Last: out of memory above must leave the requests waiting, not running without a slot.
        self._scheduler.admit(chosen)
        self._slots = slots

    def _retire(self, slots: Slots, ends: Ends) -> list[tuple[int, Trajectory]]:
        """Drop the sequences that ended from the state, and return them."""
        is_done = ends.num_response > 0
        indices = is_done.nonzero()[:, 0]
        if not len(indices):
            self._slots = slots
            return []
        kept = (~is_done).nonzero()[:, 0]
        rest = slots.take(kept) if len(kept) else None
        done = slots.take(indices).to(torch.device("cpu"))
        ends = Ends(*(column[indices].cpu() for column in ends))
        # What can fail is done: rows and requests leave together.
        requests = self._scheduler.finish(indices.tolist())
        self._slots = rest
        return [
            (request.number, self._trajectory(request, done, ends, row))
            for row, request in enumerate(requests)
        ]

    def _trajectory(self, request: Request, slots: Slots, ends: Ends, row: int) -> Trajectory:
        canvas = slice(len(request.prompt.token_ids), int(slots.start[row]) + request.block)
        return Trajectory(
            prompt=request.prompt,
            canvas_ids=tuple(slots.tokens[row, canvas].tolist()),
            step_map=tuple(slots.step_map[row, canvas].tolist()),
            behavior_logprobs=tuple(slots.logprobs[row, canvas].tolist()),
            num_response=int(ends.num_response[row]),
            finish="stop" if ends.is_stop[row] else "length",
            policy_version=self.policy_version,
            sampling=request.sampling,
            num_forwards=int(slots.forwards[row]),
        )
