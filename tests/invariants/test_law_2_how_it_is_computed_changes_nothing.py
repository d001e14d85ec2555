"""Law 2: paged == dense, prefix-shared == not shared, preempted == not preempted, fused == separate commit.

In fp32 to the bit. Each comparison also shows that the thing was done: pages were shared, a sequence
was interrupted, forwards were saved.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.engine.bits import assert_same, bits_hold, exact_dtype, unpriced
from tests.engine.golden_traces import GOLDEN, SDAR
from tests.engine.models import model_of
from tests.engine.writers import (
    by,
    by_engine,
    by_reference,
    prompt_of,
    results_of,
    sharing_asks,
    some_asks,
    trajectory_of,
)
from tests.toy import toy_model
from unmask.checkpoints.checkpoint import load_model
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.prefix_cache import PrefixIndex
from unmask.engine.scheduler import Scheduler
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams

# Where the CPU does not keep the bits of fp32, fp64 still tells the same tokens.
WEIGHTS = (
    ("blocks", "blocks, experts", "blocks, shifted", "golden", "golden, shifted", "float64")
    if bits_hold()
    else ("float64",)
)


@pytest.fixture(params=WEIGHTS, scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    if request.param == "golden":
        return load_model(SDAR)
    if request.param == "golden, shifted":
        return load_model(GOLDEN / "fast_dllm_v2", mask_id=310)
    if request.param == "float64":
        return model_of("blocks", torch.float64)
    return model_of(request.param, torch.float32)


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    """Note what every call of a method returns."""
    seen: list[Any] = []
    inner: Callable[..., Any] = getattr(owner, name)

    def noting(*arguments: Any, **named: Any) -> Any:
        seen.append(inner(*arguments, **named))
        return seen[-1]

    monkeypatch.setattr(owner, name, noting)
    return seen


def test_fused_is_separate(model: Model) -> None:
    """A shifted model saves the prefill only: its commits write the next block's first token."""
    asks = some_asks(12, 0, model)
    fused = by_engine(model, asks, EngineParams(16))
    separate = by_engine(model, asks, EngineParams(16, fuses_commit=False))
    pairs = zip(separate, fused, strict=True)
    expected = [replace(t, num_forwards=other.num_forwards) for t, other in pairs]
    assert_same(fused, expected, exact=model.dtype == torch.float32)
    pairs = zip(separate, fused, strict=True)
    saved = [one.num_forwards - other.num_forwards for one, other in pairs]
    assert set(saved) == {0, 1} if model.spec.is_shifted else max(saved) > 1


def test_paged_is_dense(model: Model) -> None:
    """Texts of up to three pages, against forwards that keep nothing."""
    longest = min(130, model.spec.max_length - 20)
    asks = some_asks(10, 6, model, longest)
    dense = [by_reference(model, ask) for ask in asks]
    engine = Engine(model)
    assert_same(by(engine, asks), dense, exact=model.dtype == torch.float32)


def test_prefix_shared_is_not_shared(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = sharing_asks(20, 1, model, min(100, model.spec.max_length - 20))
    apart = by_engine(model, asks, EngineParams(shares_prefixes=False))
    found = counted(monkeypatch, PrefixIndex, "find")
    shared = by_engine(model, asks)
    assert sum(one.length > 0 for one in found) >= 3
    assert any(one.tail is not None for one in found)
    assert_same(shared, apart, exact=model.dtype == torch.float32)


def test_preempted_is_not_preempted(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five requests grow over a page's end at about the same time, and there is no page for everyone."""
    ids = [number % 19 + 2 for number in range(56)]
    asks = some_asks(5, 8, model, block_size=4, max_tokens=24, stop_token_ids=())
    asks = [(ids[: 50 + number], params) for number, (_, params) in enumerate(asks)]
    free = by_engine(model, asks)
    interrupted = counted(monkeypatch, Scheduler, "_preempt")
    tight = by_engine(model, asks, EngineParams(cache_tokens=5 * 64))
    assert interrupted
    assert_same(unpriced(tight), unpriced(free), exact=model.dtype == torch.float32)


def assert_new_weights_that_are_the_old_ones_change_nothing(model: Model) -> None:
    asks = some_asks(12, 8, model)
    whole = by_engine(model, asks)
    engine = Engine(model, EngineParams(max_sequences=5))
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    events: list[Any] = []
    while not engine.is_idle:
        events += engine.tick()
        engine.update_weights(version=0, continues=True)
    finished = results_of(events)
    parts = [trajectory_of(finished[number]) for number in numbers]
    assert_same(unpriced(parts), unpriced(whole), exact=model.dtype == torch.float32)


def test_new_weights_after_every_pass_are_a_preemption(model: Model) -> None:
    assert_new_weights_that_are_the_old_ones_change_nothing(model)


@pytest.mark.parametrize("kind", ["canvas", "canvas, shifted"])
def test_new_weights_after_every_pass_drop_nothing_of_a_canvas(kind: str) -> None:
    assert_new_weights_that_are_the_old_ones_change_nothing(model_of(kind, exact_dtype()))


def test_preemptions_change_no_token_with_a_dual_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was interrupted feeds all its text again, not the open sub-block alone."""
    model = toy_model(1, exact_dtype(), max_length=1024, block_size=32, sub_block_size=4)
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.attention.out.weight.mul_(6)
    sampling = SamplingParams(stop_token_ids=(), strategy="dynamic", threshold=0.5, temperature=0)
    asks = [
        (
            [(7 * i + n) % 18 + 2 for i in range(33 + 9 * n)],
            replace(sampling, max_tokens=100 - 9 * n),
        )
        for n in range(4)
    ]
    free = by_engine(model, asks, EngineParams(cache="dual"))
    engine = Engine(model, EngineParams(cache="dual", cache_tokens=5 * 64))
    interrupted = counted(monkeypatch, Scheduler, "_preempt")
    # The block is fed whole once more, which refreshes what is an approximation: the last digits differ.
    assert [t.response_ids for t in by(engine, asks)] == [t.response_ids for t in free]
    assert interrupted
