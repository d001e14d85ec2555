"""The engine: requests in, trajectories out, many at a time.

One tick: the scheduler lets requests in, `plan_feed` chooses what one forward pass feeds, the runner
makes the logits of every slot to be scored, `advance` reveals tokens and moves on, and sequences that
ended leave as trajectories. Sequences of different lengths and phases share a tick. The result of a
request does not depend on its company: on CPU in fp32 it equals the reference sampler's
(`diffusion/reference_sampler.py`) to the bit, unless an approximate cache was asked for.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import torch
from torch import Tensor

from unmask.diffusion.sampling_tensors import Needs
from unmask.engine.attention import build_planner, uses_kernel
from unmask.engine.cuda_graphs import Graphs
from unmask.engine.events import Committed, Event, Finished
from unmask.engine.finished import read_finished
from unmask.engine.host_state import Books, Report, read_committed
from unmask.engine.options import EngineParams
from unmask.engine.pages import PagePool, num_pages
from unmask.engine.request import Request, opening_of, resolve
from unmask.engine.runner import Runner, Sizes
from unmask.engine.scheduler import Scheduler, Start
from unmask.engine.sequence_state import TEXTS, Slots, open_slots
from unmask.engine.stop_texts import StopTexts, find_stop_texts
from unmask.models.attention import KEY_CHUNK
from unmask.models.conventions import conventions_of
from unmask.models.row_tile import inexact
from unmask.models.stacked_linear import waits_for_router
from unmask.models.transformer import Model
from unmask.types import Prompt, SamplingParams, Trajectory


class Engine:
    """Writes the responses of many requests at once.

    Attributes:
        model: the module it samples from; the learner may share it.
        params: its size and mode.
        policy_version: how many weight syncs made the weights.
    """

    def __init__(
        self,
        model: Model,
        params: EngineParams | None = None,
        stop_texts: Callable[[tuple[str, ...]], StopTexts] | None = None,
    ) -> None:
        """Build an empty engine around a model.

        Args:
            model: what it samples from.
            params: its size and mode.
            stop_texts: finds the stop texts of a request; without it none may have any.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        self.model = model
        self.params = (params or EngineParams()).on(model.device)
        self.policy_version = 0
        self._stop_texts = stop_texts
        self._conventions = conventions_of(model)
        self._pages = PagePool(model, self.params.cache_tokens)
        planner = build_planner(self.params.attention, model.spec, model.device)
        if parts := inexact(model):
            warnings.warn(
                "law 1 does not hold on this processor: the last bits of a response's numbers depend "
                f"on the other responses of a pass (in {', '.join(parts)})",
                stacklevel=2,
            )
        self._runner = Runner(model, self._pages, planner, self.params, self._conventions)
        on_cuda = model.device.type == "cuda"
        # Plain attention, and experts without a grouped kernel, wait for sizes from the device.
        is_static = uses_kernel(self.params.attention, model.device)
        self._uses_graphs = (
            on_cuda and is_static and self.params.uses_graphs and not waits_for_router(model)
        )
        self._num_requests = 0
        self._reset()

    @property
    def is_idle(self) -> bool:
        """Whether no request waits or runs."""
        return not self._scheduler.running and not self._scheduler.waiting

    def resolve(self, prompt: Prompt, sampling: SamplingParams) -> SamplingParams:
        """Fill in what a request left to the model.

        Raises:
            ValueError: if it does not fit the model or the cache, or asks for what the engine does
                not do.
        """
        if sampling.guidance:
            raise ValueError(
                f"guidance = {sampling.guidance}: the engine does no classifier-free guidance; "
                "use unmask.diffusion.reference_sampler.sample"
            )
        if sampling.stop and self._stop_texts is None:
            raise ValueError(f"stop = {sampling.stop!r}: without a tokenizer no text can be found")
        resolved = resolve(prompt, sampling, self.model.spec)
        length = Request(0, prompt, resolved, self._conventions.is_full).max_length
        most = self._pages.max_pages
        if most is not None and num_pages(length) > most:
            raise ValueError(
                f"a prompt of {len(prompt.token_ids)} tokens and max_tokens = "
                f"{sampling.max_tokens} take {num_pages(length)} pages of the cache, which has "
                f"{most}; lower max_tokens or raise engine.cache_tokens"
            )
        return resolved

    def submit(self, prompt: Prompt, sampling: SamplingParams, streams: bool = False) -> int:
        """Queue one response and return its number.

        Args:
            prompt: with `token_ids` filled in.
            sampling: `n` must be 1: several responses are several requests with seeds of their own.
            streams: return its tokens as its blocks are finished (`Committed`).

        Raises:
            ValueError: as `resolve`, or `n` is not 1.
        """
        if sampling.n != 1:
            raise ValueError(
                f"n = {sampling.n}: a request here is one response; ask {sampling.n} times, each time "
                "with a seed of its own, or let generate do it"
            )
        number = self._num_requests
        resolved = self.resolve(prompt, sampling)
        self._scheduler.add(self._request(number, prompt, resolved, streams))
        self._num_requests += 1
        return number

    def _request(
        self, number: int, prompt: Prompt, sampling: SamplingParams, streams: bool
    ) -> Request:
        assert sampling.block_size is not None
        opening = None
        if self.params.shares_prefixes:
            opening = opening_of(prompt.token_ids, sampling.block_size, self.model.spec)
        return Request(number, prompt, sampling, self._conventions.is_full, opening, streams)

    def collect(self) -> Iterator[Finished[Trajectory]]:
        """Run until idle, yielding requests as they finish; for committed tokens call `tick`."""
        while not self.is_idle:
            yield from (event for event in self.tick() if isinstance(event, Finished))

    @torch.inference_mode()
    def tick(self) -> list[Event]:
        """Take one forward pass and return its events, or on CUDA those of the pass before.

        A request whose logits are not finite finishes with an error; the others are not affected.
        """
        self._admit()
        if self._slots is None or not self._scheduler.running:
            return []
        self._run(self._slots)
        report = self._books.send(self._slots)
        if self.params.reads_late:
            report, self._report = self._report, report
        return self._settle(self._slots, report) if report else []

    def _run(self, slots: Slots) -> None:
        """Take one step on the device: as it comes, or in sizes chosen beforehand."""
        width = max(run.request.block for run in self._scheduler.running.values())
        if not self.params.reads_late:
            self._runner.step(slots, Sizes(width))
            return
        assert self.params.row_budget is not None
        bound = self._books.bound(
            self.params.row_budget, self._conventions.is_full, self._runner.row_tile
        )
        sizes = Sizes(width, *bound)
        if not self._uses_graphs:
            self._runner.step(slots, sizes)
            return
        self._graphs.stay_at(slots, self._pages.keys)
        self._graphs.run((sizes, slots.rules.needs), lambda: self._runner.step(slots, sizes))

    @torch.inference_mode()
    def abort(self, number: int | None = None) -> None:
        """Drop a request, or every one; its pages are free again.

        Without a number it is the way out after an exception: one that came from outside, such as
        KeyboardInterrupt, may have struck between two changes that belong together. The engine is
        then as good as new.

        Raises:
            ValueError: if no request of that number waits or runs.
        """
        if number is None:
            self._pages.release_memory()
            self._reset()
            return
        slot = self._scheduler.drop(number)
        if slot is not None and self._slots is not None:
            self._slots.active[slot] = False

    def _reset(self) -> None:
        """Forget every request."""
        params = self.params
        self._scheduler = Scheduler(self._pages, params.max_sequences)
        self._slots: Slots | None = None
        self._books, self._graphs = Books(), Graphs()
        self._report: Report | None = None

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Tensor]] = (), version: int | None = None
    ) -> None:
        """Take new weights; nothing of the old ones stays cached.

        Args:
            named_tensors: parameters by our names, copied into the module in place; none where the
                learner shares the module and has changed it already.
            version: what these weights are called; by default the next number.

        Raises:
            ValueError: if requests are still running, which two policies would have written, or a
                tensor is not the model's or does not fit. Those before it are then the new ones:
                give all of them again.
        """
        if not self.is_idle:
            raise ValueError("update_weights while requests are running: collect them first")
        # Whatever comes of it, what was computed with the old weights is of no use any more.
        self._scheduler.clear()
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in named_tensors:
                _fitting(parameters, name, tensor).copy_(tensor)
        self.policy_version = self.policy_version + 1 if version is None else version

    def release_memory(self) -> None:
        """Give back the memory of the cache until the next request comes.

        Raises:
            ValueError: if requests are still running.
        """
        if not self.is_idle:
            raise ValueError("release_memory while requests are running: collect them first")
        self.abort()

    def _admit(self) -> None:
        """Let sequences in; what fails leaves them waiting."""
        scheduler = self._scheduler
        starts = scheduler.choose(self._books.lengths(self._slots, scheduler.interrupted()))
        if not starts:
            return
        try:
            self._slots = self._open([start for start in starts if start.is_new])
            self._begin(self._slots, starts)
        except BaseException:
            scheduler.withdraw(starts)
            raise

    def _open(self, starts: Sequence[Start]) -> Slots:
        """Return the state with new sequences in their slots, not yet running."""
        if not starts:
            assert self._slots is not None
            return self._slots
        requests = [start.request for start in starts]
        slots = self._room(requests)
        rows = open_slots(requests, _widths(slots), self._conventions)
        slots.put(_index([start.slot for start in starts], slots), rows)
        running = [run.request.sampling for run in self._scheduler.running.values()]
        slots.rules = replace(slots.rules, needs=Needs.of(running))
        return slots

    def _begin(self, slots: Slots, starts: Sequence[Start]) -> None:
        """Give sequences their pages, and let them run."""
        for start in starts:
            if start.copied is not None:
                self._pages.copy_page(*start.copied, start.cached % KEY_CHUNK)
        self._place(slots, {start.slot: start.pages for start in starts})
        index = _index([start.slot for start in starts], slots)
        slots.cached[index] = _index([start.cached for start in starts], slots)
        slots.active[index] = slots.num_response[index] == 0
        self._books.begin(starts)

    def _room(self, requests: Sequence[Request]) -> Slots:
        """Return the state with room for more requests."""
        longest = max(request.max_length for request in requests)
        stops = max(len(request.sampling.stop_token_ids or ()) for request in requests)
        wanted = {"tokens": longest + 1, "stop_ids": stops, "table": num_pages(longest)}
        slots = self._slots
        if slots is None:
            slots = open_slots(requests[:1], wanted, self._conventions).grown(1, {})
            slots.active.zero_()
        held = _widths(slots)
        widths = {name: max(held[name], wanted[name]) for name in held}
        count = max(len(slots.active), 1 + max(self._scheduler.running))
        if count == len(slots.active) and widths == held:
            return slots
        if count > len(slots.active):
            # Twice as many each time, so that growing costs no more than filling.
            count = min(max(count, 2 * len(slots.active)), self.params.max_sequences)
        return slots.grown(count, widths | dict.fromkeys(TEXTS, widths["tokens"]))

    def _place(self, slots: Slots, pages: dict[int, list[int]]) -> None:
        """Write the page lists of sequences into the page table."""
        for slot, numbers in pages.items():
            slots.table[slot, : len(numbers)] = _index(numbers, slots)

    def _settle(self, slots: Slots, report: Report) -> list[Event]:
        """Bring the scheduler in line with the state: ends, shared prompts, room to grow."""
        scheduler = self._scheduler
        self._books.receive(report)
        fresh = read_committed(slots, self._books, scheduler.running)
        stopped = find_stop_texts(slots, scheduler.running, fresh, self._stop_texts)
        done = list(dict.fromkeys((*self._books.done(scheduler.running), *stopped)))
        requests = [scheduler.running[slot].request for slot in done]
        finished = read_finished(slots, done, requests, self.policy_version)
        scheduler.finish(done)
        committed = [
            Committed(run.request.number, tuple(run.committed[fresh[slot] :]))
            for slot, run in scheduler.running.items()
            if run.request.streams and slot in fresh
        ]
        scheduler.publish(
            [s for s in scheduler.unpublished() if self._books.has_fed(s, scheduler.running)]
        )
        if not self._conventions.is_full:
            grown, interrupted = scheduler.grow(self._books.short(scheduler.running))
            self._place(slots, grown)
            if interrupted:
                index = _index(interrupted, slots)
                slots.cached[index] = 0
                slots.is_fresh[index] = True
                slots.active[index] = False
        ended = zip(requests, finished, strict=True)
        return [*committed, *(Finished(request.number, result) for request, result in ended)]


def _fitting(parameters: Mapping[str, Tensor], name: str, tensor: Tensor) -> Tensor:
    if name not in parameters:
        near = ", ".join(get_close_matches(name, parameters)) or "nothing"
        raise ValueError(f"update_weights: the model has no parameter {name!r}; near it: {near}")
    parameter = parameters[name]
    if parameter.shape != tensor.shape:
        raise ValueError(
            f"update_weights: {name} has shape {tuple(tensor.shape)}, the model's has "
            f"{tuple(parameter.shape)}"
        )
    return parameter


def _widths(slots: Slots) -> dict[str, int]:
    return {name: getattr(slots, name).shape[1] for name in ("tokens", "stop_ids", "table")}


def _index(slots: Sequence[int], state: Slots) -> Tensor:
    return torch.tensor(slots, dtype=torch.int64, device=state.start.device)
