"""The engine: requests in, trajectories out, many at a time.

One tick: the scheduler admits requests, `plan_feed` chooses what one forward pass feeds, the runner computes
the logits of the scored positions, `advance` reveals tokens, and `tick` returns events. Sequences of
different lengths and phases share a tick. The result of a request does not depend on the other requests: on
CPU in fp32 it equals the reference sampler's (`diffusion/reference_sampler.py`) to the bit, unless an
approximate cache is chosen.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.automaton import Automaton
from unmask.diffusion.sampling_tensors import Needs, on_device
from unmask.engine.attention import Shapes, backend_of, row_attention
from unmask.engine.attention_choice import choose_attention
from unmask.engine.canvas_stream import last_writes, take_snapshot
from unmask.engine.cuda_graphs import Graphs, captures
from unmask.engine.events import Committed, Event, Finished, Streams, streams_of
from unmask.engine.host_state import HostState, Report, read_committed, read_written
from unmask.engine.image_table import ImageTable
from unmask.engine.new_weights import copy_weights
from unmask.engine.options import EngineParams
from unmask.engine.pages import PagePool, num_pages
from unmask.engine.prefix_cache import NO_PREFIX
from unmask.engine.request import Request, check_room, prefix_key_of, resolve, with_twin
from unmask.engine.runner import Runner, Sizes
from unmask.engine.scheduler import Load, Scheduler, Start
from unmask.engine.sequence_state import (
    PER_POSITION,
    SequenceState,
    feed_again,
    open_sequences,
    read_finished,
    with_record,
)
from unmask.engine.stop_texts import StopTexts, find_stop_texts
from unmask.engine.structured import constraints_of
from unmask.models.conventions import conventions_of
from unmask.models.placement import as_current
from unmask.models.row_tile import inexact
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory


class Engine:
    """Writes the responses of many requests at once.

    Attributes:
        model: the module it samples from; the learner may share it.
        params: its size and mode.
        attention: name of the attention backend.
        policy_version: number of weight updates so far.
    """

    def __init__(
        self,
        model: Model,
        params: EngineParams | None = None,
        stop_texts: Callable[[tuple[str, ...]], StopTexts] | None = None,
        automata: Callable[[SamplingParams], Automaton] | None = None,
    ) -> None:
        """Build an empty engine around a model.

        Args:
            model: the module to sample from.
            params: size and mode.
            stop_texts: builds the pattern of a request's stop texts; without it requests with stop texts
                are refused.
            automata: builds the automaton of a request's structured output; without it such requests are
                refused.

        Raises:
            ValueError: if the model's mask id is unknown, or `params.attention` cannot run, or does not
                keep the law of a batch-invariant model.
        """
        self.model = model
        self.params = (params or EngineParams()).on(model.device)
        self.policy_version = 0
        self._stop_texts, self._automata = stop_texts, automata
        self.constraint = constraints_of(automata)
        self._conventions = conventions_of(model)
        kind, shapes = self.params.attention, Shapes.of(model)
        if model.is_batch_invariant:
            kind = row_attention(kind, shapes)
        self.attention = choose_attention(kind, shapes, self.params.max_sequences)
        backend = backend_of(self.attention)
        layout = backend.page_size, backend.heads_first
        self._pages = PagePool(model, self.params.cache_tokens, *layout)
        planner = backend.build(model.spec)
        if parts := inexact(model):
            warnings.warn(
                "law 1 does not hold on this processor: the last bits of a response's log-probabilities "
                f"depend on the other responses of a pass (in {', '.join(parts)})",
                stacklevel=2,
            )
        self._images = ImageTable()
        in_use = self._pages, planner, self.params, self._conventions
        self._runner = Runner(model, *in_use, self._images)
        self._uses_graphs = captures(self.params, backend, model, model.device)
        self._num_requests = 0
        self._reset()

    @property
    def is_idle(self) -> bool:
        """Whether no request waits or runs."""
        return not self._scheduler.running and not self._scheduler.waiting

    @property
    def load(self) -> Load:
        """How much runs and waits; may be read from another thread."""
        return self._scheduler.load()

    def resolve(self, prompt: Prompt, sampling: SamplingParams) -> SamplingParams:
        """Return the parameters with the model's defaults filled in.

        Raises:
            ValueError: if the request does not fit the model or the engine, needs stop texts that the engine
                does not have, or has a pattern that no response can match.
        """
        if sampling.stop and self._stop_texts is None:
            raise ValueError(f"stop = {sampling.stop!r}: without a tokenizer no text can be found")
        if sampling.is_structured and self._automata is None:
            raise ValueError(
                "regex or json_schema: without a tokenizer there are no texts that could match"
            )
        if prompt.images and self.model.backbone.vision is None:
            raise ValueError("the prompt holds pictures, but this model reads text only")
        resolved = resolve(prompt, sampling, self.model.spec)
        check_room(self._request(0, prompt, resolved), self._pages, self.params.max_sequences)
        self.constraint(resolved)  # refuses here what no response could match
        return resolved

    def submit(
        self, prompt: Prompt, sampling: SamplingParams, streams: Streams | bool | None = None
    ) -> int:
        """Queue one response and return its request id.

        Args:
            prompt: with `token_ids` filled in.
            sampling: `n` must be 1: several responses are several requests with seeds of their own.
            streams: `text` (or `True`) returns its tokens as its blocks are finished (`Committed`),
                `canvas` also the writes of every denoising step (`Written`).

        Raises:
            ValueError: as `resolve`, or `n` is not 1, or `streams` is something else.
        """
        events = streams_of(streams)
        if sampling.n != 1:
            raise ValueError(
                f"n = {sampling.n}: a request here is one response; ask {sampling.n} times, each time "
                "with a seed of its own, or let generate do it"
            )
        resolved, prefix = self.resolve(prompt, sampling), NO_PREFIX
        assert resolved.block_size is not None
        if self.params.shares_prefixes:
            spec, page_size = self.model.spec, self._pages.page_size
            prefix = prefix_key_of(prompt, resolved.block_size, spec, page_size)
        request_id = self._num_requests
        request = self._request(request_id, prompt, resolved)
        constraint = self.constraint(resolved)
        parts = {"prefix": prefix, "streams": events, "constraint": constraint}
        self._scheduler.add(replace(request, **parts))
        self._num_requests += 1
        return request_id

    def _request(self, request_id: int, prompt: Prompt, resolved: SamplingParams) -> Request:
        """Return a request, and its twin with guidance."""
        request = Request(request_id, prompt, resolved, self._conventions.is_full)
        return with_twin(request, self._conventions.mask_id)

    def collect(
        self, before_tick: Callable[[], None] | None = None
    ) -> Iterator[Finished[Trajectory]]:
        """Run until idle, yielding requests as they finish; call `before_tick` before every pass."""
        while not self.is_idle:
            if before_tick:
                before_tick()
            yield from (event for event in self.tick() if isinstance(event, Finished))

    @torch.inference_mode()
    def tick(self) -> list[Event]:
        """Take one forward pass and return its events, or on CUDA those of the pass before.

        A request whose logits are not finite finishes with an error; the others are not affected.
        """
        with as_current(self.model.device):
            self._admit()
            if self._state is None or not self._scheduler.running:
                return []
            self._run(self._state)
            snapshot = take_snapshot(self._state, self._scheduler.running)
            report = self._host.send(self._state, snapshot)
            if self.params.reads_late:
                report, self._report = self._report, report
            return self._settle(self._state, report) if report else []

    def _run(self, state: SequenceState) -> None:
        """Take one step on the device: in exact sizes, or in sizes chosen before it has reported."""
        params, runs = self.params, self._scheduler.running.values()
        blocks = [run.request.block for run in runs]
        sizes = Sizes(max(blocks), narrowest=min(blocks))
        if params.reads_late:
            assert params.row_budget is not None
            is_full = self._conventions.is_full
            bound = self._host.bound(params.row_budget, is_full, self._runner.row_tile)
            sizes = Sizes(sizes.width, *bound, sizes.narrowest)
        running = self._scheduler.running.items()
        constraints = {i: run.request.constraint for i, run in running if run.request.constraint}
        # The draws of structured output run on the host, so they cannot be captured.
        if constraints:
            self._runner.step(state, sizes, constraints)
            return
        if not self._uses_graphs:
            self._runner.step(state, sizes)
            return
        self._graphs.stay_at(state, self._pages.keys, self._images.vectors)
        self._graphs.run((sizes, state.sampling.needs), lambda: self._runner.step(state, sizes))

    @torch.inference_mode()
    def abort(self, request_id: int | None = None) -> None:
        """Drop a request, or all of them, and free the pages.

        Without an id, reset the engine. Call that after an exception: KeyboardInterrupt, for example, may
        arrive in the middle of an update and leave the state inconsistent.

        Raises:
            ValueError: if no such request waits or runs.
        """
        if request_id is None:
            self._pages.release_memory()
            self._reset()
            return
        for index in self._scheduler.drop(request_id):
            assert self._state is not None
            self._state.active[index] = False

    def _reset(self) -> None:
        """Drop every request and the state."""
        params = self.params
        self._scheduler = Scheduler(self._pages, params.max_sequences)
        self._state: SequenceState | None = None
        self._host, self._graphs = HostState(self._pages.page_size), Graphs()
        self._report: Report | None = None

    def update_weights(
        self,
        named_tensors: Iterable[tuple[str, Tensor]] = (),
        version: int | None = None,
        continues: bool = False,
    ) -> None:
        """Take new weights and clear everything cached under the old ones.

        Args:
            named_tensors: parameters by our names, copied into the module in place; none where the
                learner shares the module and has changed it already.
            version: the new `policy_version`; by default the next number.
            continues: the new weights write the rest of running requests, whose keys and values are
                computed again; `policy_versions` of their trajectories is the record of it.

        Raises:
            ValueError: if requests are still running, which two policies would then write, without
                `continues` or with an approximate cache; or a name or shape is not the model's. The
                tensors before that one are copied already: pass all of them again.
        """
        if not self.is_idle and not continues:
            raise ValueError("update_weights while requests are running: collect them first")
        if not self.is_idle and self.params.cache != "exact":
            cache = self.params.cache
            raise ValueError(f"update_weights: requests go on with cache = 'exact', not {cache!r}")
        # Also when a tensor is refused below: some weights may have changed by then.
        self._interrupt()
        try:
            copy_weights(self.model, named_tensors)
        finally:
            self._images.renew(self.model, self.is_idle)
        self.policy_version = self.policy_version + 1 if version is None else version

    @torch.inference_mode()
    def _interrupt(self) -> None:
        """Record which weights wrote the running requests so far, and drop all keys and values."""
        scheduler, state = self._scheduler, self._state
        if state is not None and scheduler.running:
            scheduler.record_version(self.policy_version, state.step.tolist())
            # Under full attention an exact cache keeps nothing between denoising steps.
            if not self._conventions.is_full:
                feed_again(state, scheduler.preempt_all())
        scheduler.index.clear()

    def release_memory(self) -> None:
        """Free the memory of the cache until the next request arrives.

        Raises:
            ValueError: if requests are still running.
        """
        if not self.is_idle:
            raise ValueError("release_memory while requests are running: collect them first")
        self.abort()

    def _admit(self) -> None:
        """Admit sequences; an exception leaves them waiting."""
        scheduler = self._scheduler
        starts = scheduler.choose(self._host.lengths(self._state, scheduler.preempted()))
        if not starts:
            return
        try:
            self._state = self._open([start for start in starts if start.is_new])
            self._begin(self._state, starts)
        except BaseException:
            scheduler.withdraw(starts)
            raise

    def _open(self, starts: Sequence[Start]) -> SequenceState:
        """Return the state with new sequences written, not yet running."""
        if not starts:
            assert self._state is not None
            return self._state
        asked = [start.request for start in starts]
        ids = [self._images.add(r.prompt, self.model, self._scheduler.prompts) for r in asked]
        requests = [replace(one, table_ids=own) for one, own in zip(asked, ids, strict=True)]
        state = self._room(requests)
        rows = open_sequences(requests, _widths(state), self._conventions)
        state.put(_index([start.index for start in starts], state), rows)
        running = [run.request.sampling for run in self._scheduler.running.values()]
        state.sampling = replace(state.sampling, needs=Needs.of(running))
        return state

    def _begin(self, state: SequenceState, starts: Sequence[Start]) -> None:
        """Write the pages of sequences to the page table and activate them."""
        for start in starts:
            if start.copied is not None:
                self._pages.copy_page(*start.copied, start.cached % self._pages.page_size)
        self._place(state, {start.index: start.pages for start in starts})
        index = _index([start.index for start in starts], state)
        state.cached[index] = _index([start.cached for start in starts], state)
        at = {(start.request.id, start.request.is_twin): start.index for start in starts}
        pairs = [(at[number, False], twin) for (number, is_twin), twin in at.items() if is_twin]
        if pairs:
            leader, twin = _index(pairs, state).T
            state.guide[leader], state.leader[twin] = twin, leader
        state.active[index] = state.num_response[index] == 0
        self._host.begin(starts)

    def _room(self, requests: Sequence[Request]) -> SequenceState:
        """Return the state, grown to hold more requests where it has to be."""
        longest = max(request.max_length for request in requests)
        stops = max(len(request.sampling.stop_token_ids or ()) for request in requests)
        wanted = {
            "tokens": longest + 1,
            "stop_ids": stops,
            "table": num_pages(longest, self._pages.page_size),
        }
        state = self._state
        if state is None:
            state = open_sequences(requests[:1], wanted, self._conventions).grown(1, {})
            state.active.zero_()
        held = _widths(state)
        widths = {name: max(held[name], wanted[name]) for name in held}
        count = max(len(state.active), 1 + max(self._scheduler.running))
        if count == len(state.active) and widths == held:
            return state
        if count > len(state.active):
            # Doubling keeps the total cost of copies linear in the number of sequences.
            count = min(max(count, 2 * len(state.active)), self.params.max_sequences)
        return state.grown(count, widths | dict.fromkeys(PER_POSITION, widths["tokens"]))

    def _place(self, state: SequenceState, pages: dict[int, list[int]]) -> None:
        """Write the pages of sequences, by sequence index, to the page table."""
        written = [
            (index, column, page) for index in pages for column, page in enumerate(pages[index])
        ]
        if written:
            row, column, page = _index(written, state).T
            state.table[row, column] = page

    def _settle(self, state: SequenceState, report: Report) -> list[Event]:
        """Update the scheduler from a report: finished sequences, shared prompts, pages to grow."""
        scheduler = self._scheduler
        self._host.receive(report)
        written = read_written(report.snapshot, self._host, scheduler.running)
        fresh = read_committed(state, self._host, scheduler.running)
        stopped = find_stop_texts(state, scheduler.running, fresh, self._stop_texts)
        done = [i for i in self._host.done(scheduler.running) if i not in scheduler.twins]
        done = list(dict.fromkeys((*done, *stopped)))
        runs = [scheduler.running[index] for index in done]
        requests = [run.request for run in runs]
        finished = read_finished(state, done, requests, self.policy_version)
        records = ((run.earlier, run.revisions) for run in runs)
        finished = [with_record(one, *own) for one, own in zip(finished, records, strict=True)]
        written += map(last_writes, runs, finished)
        twins = scheduler.finish(done)
        if twins and stopped:  # else they have ended in the same step
            state.active[_index(twins, state)] = False
        committed = [
            Committed(run.request.id, tuple(run.committed[fresh[index] :]))
            for index, run in scheduler.running.items()
            if run.request.streams and index in fresh
        ]
        scheduler.index_prefixes(
            [i for i in scheduler.prefilling() if self._host.has_fed(i, scheduler.running)]
        )
        if not self._conventions.is_full:
            grown, preempted = scheduler.grow(self._host.short(scheduler.running))
            self._place(state, grown)
            feed_again(state, preempted)
        ended = zip(requests, finished, strict=True)
        return [
            *(event for event in written if event),
            *committed,
            *(Finished(request.id, result) for request, result in ended),
        ]


def _widths(state: SequenceState) -> dict[str, int]:
    return {name: getattr(state, name).shape[1] for name in ("tokens", "stop_ids", "table")}


def _index(indices: Sequence[Any], state: SequenceState) -> Tensor:
    return on_device(indices, state.start.device)
