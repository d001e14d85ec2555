"""Captured steps: what can be seen without a GPU is that a step of fixed sizes never waits for the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tests.engine.fake_device import NoWaiting, device_of
from tests.engine.writers import by_engine, prompt_of, results_of, some_asks
from tests.models.toy import SIGMOID, SOFTMAX
from tests.toy import toy_model
from unmask.engine.attention import backend_of
from unmask.engine.cuda_graphs import Graphs, captures
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.runner import Sizes
from unmask.engine.stop_texts import StopTexts
from unmask.sampling_params import SamplingParams


def no_attention(*plan: Any) -> Any:
    """Stand in for the kernel: a backend that waits for nothing."""
    return lambda layer, q, k, v: q


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "full", "block_size": 8},
        {"is_shifted": True},
        {"num_layers": 3, "moe": SOFTMAX},
        {"num_layers": 3, "moe": SIGMOID},
    ],
)
def test_a_step_of_fixed_sizes_waits_for_nothing(changes: dict[str, Any]) -> None:
    """So it can be captured: with every strategy, filter, edit and mask that requests may ask for."""
    engine = Engine(toy_model(1, **changes), EngineParams(max_sequences=16))
    for ids, sampling in some_asks(16):
        engine.submit(prompt_of([*ids, 3]), sampling)
    engine.tick()
    engine._runner.planner = no_attention
    state = engine._state
    assert state is not None
    with NoWaiting() as waiting, torch.inference_mode():
        engine._runner.step(state, Sizes(8, 2048, 256))
    assert not waiting.found
    with NoWaiting() as waiting, torch.inference_mode():
        engine._runner.step(state, Sizes(8))
    assert waiting.found, "sizes that are not given have to be asked for"


def drawn(temperature: float = 1.0) -> SamplingParams:
    return SamplingParams(
        strategy="static", max_tokens=200, temperature=temperature, stop_token_ids=()
    )


@pytest.mark.parametrize("changes", [{"is_shifted": True}, {"num_layers": 3, "moe": SOFTMAX}])
def test_ticks_without_admissions_wait_for_nothing(changes: dict[str, Any]) -> None:
    """On a stand-in for a GPU: planning, the pass, pages to grow into and the report, over many blocks."""
    engine = Engine(
        toy_model(1, max_length=512, **changes),
        EngineParams(reads_late=True, shares_prefixes=False),
    )
    for length in (5, 60, 70):
        engine.submit(prompt_of([3] * length), drawn())
    for _ in range(3):
        engine.tick()
    engine._runner.planner = no_attention
    before = engine._pages.num_pages - len(engine._pages._free)
    with device_of(engine) as waits:
        for _ in range(60):
            assert not engine.tick()
    assert not waits.found
    assert engine._pages.num_pages - len(engine._pages._free) > before, "pages were handed out"


def test_a_tick_runs_on_the_models_gpu_as_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton, graphs and events would otherwise use `cuda:0` for a model on `cuda:1`."""
    current: list[torch.device] = []

    @contextmanager
    def as_current(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.clear()

    engine = Engine(toy_model(1), EngineParams())
    engine.submit(prompt_of([3] * 5), SamplingParams(max_tokens=8, temperature=0))
    step = engine._runner.step
    monkeypatch.setattr("unmask.engine.engine.as_current", as_current)
    monkeypatch.setattr(
        engine._runner, "step", lambda *given: (found.append(list(current)), step(*given))
    )
    found: list[list[torch.device]] = []
    engine.tick()
    assert found == [[engine.model.device]]


def test_the_stand_in_for_a_gpu_finds_what_waits() -> None:
    engine = Engine(toy_model(1, max_length=512), EngineParams(reads_late=True))
    engine.submit(prompt_of([3] * 5), drawn())
    engine.tick()
    state = engine._state
    assert state is not None
    with torch.inference_mode(), device_of(engine) as waits:
        state.start.tolist()
        state.tokens[state.active]
        state.tokens[[0]] = 1
        state.tokens[torch.tensor([0])] = 2
        torch.tensor([0], device="cpu")
    assert len(waits.found) == 5


@pytest.mark.parametrize("max_sequences", [3, 16])
def test_sizes_chosen_beforehand_and_reports_read_late_change_nothing(max_sequences: int) -> None:
    asks = some_asks(16, seed=4)
    model = toy_model(1)
    late = EngineParams(max_sequences=max_sequences, reads_late=True)
    assert by_engine(model, asks, late) == by_engine(model, asks)


def test_a_step_that_was_captured_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph per key; a cleared store captures again."""
    replayed: list[int] = []

    class Graph:
        def replay(self) -> None:
            replayed.append(1)

        def pool(self) -> int:
            return 7

    class Capture:
        def __init__(
            self, graph: Graph, pool: int | None, stream: object, capture_error_mode: str
        ) -> None:
            pools.append(pool)
            streams.append(stream)
            assert capture_error_mode == "thread_local"

        def __enter__(self) -> None:
            captures.append(1)

        def __exit__(self, *error: object) -> None:
            pass

    pools: list[int | None] = []
    captures: list[int] = []
    streams: list[object] = []
    monkeypatch.setattr(torch.cuda, "Stream", object)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    graphs, taken = Graphs(), []
    for key in ("a", "a", "b", "a"):
        graphs.run(key, lambda: taken.append(1))
    assert (len(captures), len(replayed)) == (2, 2)
    assert len(taken) == 4, "each key runs once as it is, and once under capture"
    assert pools == [None, 7] and streams[0] is streams[1]
    graphs.clear()
    graphs.run("a", lambda: taken.append(1))
    assert len(captures) == 3


def test_graphs_last_as_long_as_what_they_point_into_stays() -> None:
    graphs, state, pages = Graphs(), object(), object()
    for home, lasts in (
        ((state, pages), False),
        ((state, pages), True),
        ((state, object()), False),
    ):
        graphs._graphs["captured"] = graphs  # type: ignore[assignment]
        graphs.stay_at(*home)
        assert ("captured" in graphs._graphs) == lasts


def test_stop_texts_are_found_when_reports_are_read_late() -> None:
    model = toy_model(1)
    sampling = SamplingParams(max_tokens=40, stop_token_ids=(), temperature=1)
    texts = partial(StopTexts, decode=lambda ids: "".join(map(chr, ids)), special={})
    engine = Engine(model, EngineParams(reads_late=True), texts)
    (plain,) = by_engine(model, [([5] * 3, sampling)])
    stop = "".join(map(chr, plain.response_ids[10:12]))
    engine.submit(
        prompt_of([5] * 3), SamplingParams(**{**sampling_fields(sampling), "stop": (stop,)})
    )
    (result,) = results_of(engine.collect()).values()
    assert not isinstance(result, ValueError)
    text = "".join(map(chr, result.response_ids))
    assert text.endswith(stop) and stop not in text[:-1] and result.finish == "stop"
    assert result.response_ids == plain.response_ids[: len(text)]


def sampling_fields(sampling: SamplingParams) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in sampling.__slots__}


@pytest.mark.parametrize(
    ("changes", "dtype", "major", "expected"),
    [
        ({}, torch.float32, 8, True),
        ({"num_layers": 3, "moe": SOFTMAX}, torch.bfloat16, 9, True),
        ({"num_layers": 3, "moe": SIGMOID}, torch.bfloat16, 10, True),
        ({"num_layers": 3, "moe": SOFTMAX}, torch.bfloat16, 8, False),
        ({"num_layers": 3, "moe": SOFTMAX}, torch.float32, 9, False),
    ],
)
def test_steps_are_captured_where_nothing_waits_on_a_made_up_card(
    changes: dict[str, Any],
    dtype: torch.dtype,
    major: int,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The card's compute capability is made up: this tests the decision, not a capture."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    model, cuda = toy_model(1, dtype, **changes), torch.device("cuda")
    params = EngineParams().on(cuda)
    assert captures(params, backend_of("kernel"), model, cuda) == expected
    assert not captures(params, backend_of("plain"), model, cuda), "it waits for sizes"
    assert not captures(params, backend_of("kernel"), model, torch.device("cpu"))
    assert not captures(replace(params, uses_graphs=False), backend_of("kernel"), model, cuda)
