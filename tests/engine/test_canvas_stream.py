"""Writes of denoising steps: replayed, they are the trajectory, whichever requests share its ticks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from math import exp

import pytest
import torch

from tests.engine.fake_device import device_of
from tests.engine.models import KINDS, model_of
from tests.engine.states import opened, request_of
from tests.engine.writers import Ask, by_engine, prompt_of, results_of, some_asks
from tests.toy import toy_model
from unmask.diffusion.sampling_tensors import STRATEGIES
from unmask.engine.canvas_stream import COLUMNS, new_writes, record_revisions, take_snapshot
from unmask.engine.engine import Engine
from unmask.engine.events import Committed, Event, Finished, Written
from unmask.engine.options import EngineParams
from unmask.engine.scheduler import Running
from unmask.engine.stop_texts import StopTexts
from unmask.sampling_params import SamplingParams
from unmask.types import Revision, Trajectory

SIZES = {
    "default": EngineParams(),
    "read late": EngineParams(max_sequences=6, reads_late=True, row_budget=60),
    "late, few pages": EngineParams(max_sequences=8, reads_late=True, cache_tokens=3 * 64),
    "commits apart": EngineParams(fuses_commit=False),
}


def run(
    engine: Engine, asks: Sequence[Ask], every: int = 1
) -> tuple[dict[int, list[Written]], dict[int, Trajectory | ValueError]]:
    """Return the writes and the results; every so many requests stream their canvas, the others text."""
    for number, (ids, params) in enumerate(asks):
        streams = "canvas" if number % every == 0 else ("text", None)[number % 2]
        engine.submit(prompt_of(ids), params, streams)
    written: dict[int, list[Written]] = defaultdict(list)
    finished: dict[int, Trajectory | ValueError] = {}
    while not engine.is_idle:
        for event in engine.tick():
            assert event.request_id not in finished, "no event follows the last"
            if isinstance(event, Finished):
                finished[event.request_id] = event.result
            elif isinstance(event, Written):
                written[event.request_id].append(event)
    return written, finished


def assert_replayed(written: Iterable[Written], result: Trajectory | ValueError, mask: int) -> None:
    """Assert that the writes, laid over a canvas of masks in order, are the trajectory's columns."""
    assert isinstance(result, Trajectory)
    length, last = len(result.canvas_ids), 0
    tokens, steps = [mask] * length, [0] * length
    logprobs, confidences = [0.0] * length, [0.0] * length
    pinned = dict(result.sampling.pinned)
    for position, token in pinned.items():
        tokens[position] = token
    for event in written:
        assert event.step > last and event.positions
        assert list(event.positions) == sorted(set(event.positions) - pinned.keys())
        last = event.step
        for position, token, logprob, confidence in zip(
            event.positions, event.token_ids, event.logprobs, event.confidences, strict=True
        ):
            tokens[position], steps[position] = token, 0 if token == mask else event.step
            logprobs[position], confidences[position] = logprob, confidence
    assert tuple(tokens) == result.canvas_ids
    assert tuple(steps) == result.step_map
    assert tuple(logprobs) == result.behavior_logprobs
    expected = zip(result.raw_logprobs, result.step_map, strict=True)
    assert confidences == [exp(x) if step else 0 for x, step in expected]
    assert last == max(result.step_map)


@pytest.mark.parametrize("kind", ["blocks", "canvas", "canvas, shifted"])
def test_pinned_tokens_are_no_writes(kind: str) -> None:
    model = model_of(kind, torch.float32)
    pins = [((0, 5), (1, 6)), tuple((place, 7) for place in range(4, 14)), ((19, 8),)]
    asks = [([5] * 6, SamplingParams(max_tokens=20, pinned=pinned)) for pinned in pins]
    for size in SIZES.values():
        written, finished = run(Engine(model, size), asks)
        for number, events in written.items():
            assert_replayed(events, finished[number], model.spec.mask_id or 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["default", "read late"])
def test_replayed_writes_are_the_trajectory_for_every_strategy(kind: str, size: str) -> None:
    """Every strategy with and without edits and new masks, in blocks of many sizes, next to other requests."""
    model = model_of(kind, torch.float32)
    asks = some_asks(2 * len(STRATEGIES), 5, model, 40)
    written, finished = run(Engine(model, SIZES[size]), asks, every=2)
    assert sorted(written) == list(range(0, len(asks), 2))
    streamed = [finished[number] for number in written]
    assert {t.revised for t in streamed if isinstance(t, Trajectory)} == {True, False}
    for number, events in written.items():
        assert_replayed(events, finished[number], model.spec.mask_id or 0)
    assert [finished[number] for number in range(len(asks))] == by_engine(model, asks, SIZES[size])


@pytest.mark.parametrize(
    ("strategy", "size"),
    [*zip(STRATEGIES, cycle(["default", "late, few pages", "commits apart"]), strict=False)],
)
def test_edits_and_new_masks_are_writes_too(strategy: str, size: str) -> None:
    model = toy_model(1)
    revising = {"edit_threshold": 0.2, "remask_threshold": 0.3, "max_edit_steps": 4}
    asks = some_asks(6, 3, model, strategy=strategy, block_size=6, max_tokens=14, **revising)
    written, finished = run(Engine(model, SIZES[size]), asks)
    events = [event for number in written for event in written[number]]
    assert any(1 in event.token_ids for event in events), "a position was masked again"
    for number in written:
        assert_replayed(written[number], finished[number], 1)


def test_a_preempted_request_sends_no_write_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives its pages back, and continues with the canvas it had."""
    preempted: list[int] = []
    model = toy_model(1, head_width=16, max_length=1024)
    asks = [(ids[:9], replace(p, max_tokens=90, stop_token_ids=())) for ids, p in some_asks(8, 0)]
    for late in (False, True):
        engine = Engine(model, EngineParams(cache_tokens=3 * 64, reads_late=late))
        inner = engine._scheduler._preempt
        monkeypatch.setattr(
            engine._scheduler,
            "_preempt",
            lambda index, inner=inner: (preempted.append(index), inner(index)),
        )
        written, finished = run(engine, asks)
        assert preempted
        for number, events in written.items():
            assert_replayed(events, finished[number], 1)
        preempted.clear()


@pytest.mark.parametrize(
    ("strategy", "late"), [*zip(STRATEGIES, cycle([False, True]), strict=False)]
)
def test_a_response_that_stops_inside_a_block(strategy: str, late: bool) -> None:
    """At a stop token, at `max_tokens`, and at a stop text, which is found one tick late on CUDA."""
    model = toy_model(1)
    plain = SamplingParams(
        strategy=strategy, stop_token_ids=(), max_tokens=19, temperature=2, block_size=6
    )
    (whole,) = by_engine(model, [([5] * 4, plain)])
    text = "".join(map(chr, whole.response_ids[7:9]))
    asks = [
        ([5] * 4, plain),
        ([5] * 4, replace(plain, stop_token_ids=(whole.response_ids[10],))),
        ([5] * 4, replace(plain, stop=(text,))),
    ]
    texts = partial(StopTexts, decode=lambda ids: "".join(map(chr, ids)), special={})
    engine = Engine(model, EngineParams(reads_late=late), texts)
    written, finished = run(engine, asks)
    for number in range(3):
        assert_replayed(written[number], finished[number], 1)
    lengths = [t.num_response for t in finished.values() if isinstance(t, Trajectory)]
    assert sorted(lengths)[2] == 19 and sorted(lengths)[0] <= 9


def test_writes_come_before_the_tokens_that_they_finish() -> None:
    """Every committed token was written by an event of the same or an earlier tick."""
    engine = Engine(toy_model(1), EngineParams())
    ((ids, params),) = some_asks(1, 2, strategy="static", max_tokens=15, stop_token_ids=())
    engine.submit(prompt_of(ids), params, "canvas")
    canvas: dict[int, int] = {}
    num_committed, events = 0, list[Event]()
    while not engine.is_idle:
        for event in engine.tick():
            events.append(event)
            if isinstance(event, Written):
                canvas |= zip(event.positions, event.token_ids, strict=True)
            elif isinstance(event, Committed):
                for token in event.token_ids:
                    assert canvas[num_committed] == token
                    num_committed += 1
    assert num_committed and isinstance(events[-1], Finished)


def test_requests_that_stream_text_or_nothing_take_no_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = toy_model()
    taken: list[object] = []
    monkeypatch.setattr(
        "unmask.engine.engine.take_snapshot",
        lambda *given: (taken.append(take_snapshot(*given)), taken[-1])[1],
    )
    engine = Engine(model)
    for streams in (None, False, True, "text"):
        engine.submit(prompt_of([5]), SamplingParams(max_tokens=6), streams)
    events = [event for _ in range(40) for event in engine.tick()]
    assert taken and set(taken) == {None}
    assert not any(isinstance(event, Written) for event in events)
    assert {event.request_id for event in events if isinstance(event, Committed)} == {2, 3}


def test_a_snapshot_waits_for_nothing() -> None:
    """On a stand-in for a GPU, inside a block: the copy to the host is queued like the counters."""
    engine = Engine(toy_model(1, max_length=512), EngineParams(reads_late=True))
    slow = SamplingParams(strategy="static", block_size=64, max_tokens=200, stop_token_ids=())
    for length in (5, 66, 70):
        engine.submit(prompt_of([3] * length), slow, "canvas")
    for _ in range(3):
        engine.tick()
    # A backend that waits for nothing, as the kernel.
    engine._runner.planner = lambda *plan: lambda layer, q, k, v: q
    with device_of(engine) as waits:
        events = [event for _ in range(40) for event in engine.tick()]
    assert not waits.found
    assert len(events) == 120 and all(isinstance(event, Written) for event in events)


def test_a_snapshot_holds_two_blocks_of_the_requests_that_stream() -> None:
    asks: list[Ask] = [
        ([5] * length, SamplingParams(block_size=block, max_tokens=12))
        for length, block in ((5, 4), (6, 4), (2, 5))
    ]
    state = opened(*asks)
    requests = [request_of(number, one) for number, one in enumerate(asks)]
    requests[1:] = [replace(request, streams="canvas") for request in requests[1:]]
    state.step_map.copy_(torch.arange(state.step_map.numel()).view(state.step_map.shape))
    state.start.copy_(torch.tensor([4, 8, 5]))
    found = take_snapshot(state, {n: Running(request) for n, request in enumerate(requests)})
    assert found and found.indices == (1, 2) and found.columns.shape == (len(COLUMNS), 2, 10)
    steps = found.columns[COLUMNS.index("step_map")]
    assert steps[0, :8].tolist() == state.step_map[1, 4:12].tolist()
    assert steps[1].tolist() == state.step_map[2, :10].tolist()


def test_the_writes_of_a_tick_are_what_differs() -> None:
    sequence = Running(request_of(3, ([5], SamplingParams(max_tokens=9))))
    columns = [[7, 1, 8], [1, 0, 1], [-0.5, 0.0, -2.0], [-1.0, 0.0, -3.0]]
    first = new_writes(sequence, 4, columns)
    assert first == Written(3, 1, (4, 6), (7, 8), (-0.5, -2.0), (exp(-1.0), exp(-3.0)))
    assert new_writes(sequence, 4, columns) is None
    columns = [[9, 2, 1], [2, 2, 0], [-0.1, -0.2, 0.0], [-0.3, -0.4, 0.0]]
    second = new_writes(sequence, 4, columns)
    assert second and second.positions == (4, 5, 6) and second.step == 2
    assert second.token_ids == (9, 2, 1) and second.confidences[2] == 0


def test_what_a_tick_replaced_is_recorded() -> None:
    """An edit, a new mask, and a reveal of what was masked; the window moves on with the blocks."""
    asked = SamplingParams(max_tokens=6, block_size=4, edit_threshold=0.5)
    run = Running(request_of(0, ([5], asked)))
    ticks = [
        (0, [[7, 1, 8], [1, 0, 1], [-0.5, 0.0, -2.0]]),
        (0, [[6, 9, 1], [2, 2, 0], [-0.1, -0.2, 0.0]]),
        (1, [[9, 4, 1], [2, 3, 0], [-0.2, -0.3, 0.0]]),
        (1, [[9, 4, 2], [2, 3, 4], [-0.2, -0.3, -0.6]]),
    ]
    for first, columns in ticks:
        raw = [[0.0, 0.0, 0.0]]
        record_revisions(run, first, torch.tensor(columns + raw, dtype=torch.float64))
    assert run.revisions == [
        Revision(1, 0, 7, -0.5, "write"),
        Revision(1, 2, 8, -2.0, "write"),
        Revision(2, 2, 1, 0.0, "remask"),
    ]


def test_requests_that_may_revise_are_followed_once_each() -> None:
    """The twin of guidance takes the tokens of the sequence that it guides."""
    one = request_of(0, ([5], SamplingParams(max_tokens=6, block_size=4, remask_threshold=0.5)))
    assert one.is_followed and not replace(one, is_twin=True).is_followed
    assert not request_of(0, ([5], SamplingParams(max_tokens=6, block_size=4))).is_followed


def test_broken_logits_are_no_writes() -> None:
    model = toy_model(1)
    with torch.no_grad():
        model.head.projection.weight.fill_(torch.nan)
    engine = Engine(model)
    engine.submit(prompt_of([5]), SamplingParams(max_tokens=9), "canvas")
    (event,) = engine.tick()
    assert isinstance(event, Finished) and isinstance(event.result, ValueError)


@pytest.mark.parametrize("late", [False, True])
def test_an_aborted_request_sends_no_more_writes(late: bool) -> None:
    """Its sequence index goes to the next request, whose writes are its own."""
    model = toy_model(1)
    engine = Engine(model, EngineParams(max_sequences=1, reads_late=late))
    ask: Ask = ([5] * 3, SamplingParams(strategy="static", max_tokens=12, stop_token_ids=()))
    leaving = engine.submit(prompt_of(ask[0]), ask[1], "canvas")
    for _ in range(3):
        engine.tick()
    engine.abort(leaving)
    staying = engine.submit(prompt_of(ask[0]), replace(ask[1], seed=4), "canvas")
    events: list[Event] = []
    while not engine.is_idle:
        events += engine.tick()
    assert {event.request_id for event in events} == {staying}
    (result,) = results_of(events).values()
    assert_replayed((event for event in events if isinstance(event, Written)), result, 1)


def test_other_values_of_streams_are_refused() -> None:
    engine = Engine(toy_model())
    with pytest.raises(ValueError, match="streams = 'pixels': must be 'text', 'canvas' or None"):
        engine.submit(prompt_of([5]), SamplingParams(), "pixels")  # pyright: ignore[reportArgumentType]
    assert engine.is_idle
