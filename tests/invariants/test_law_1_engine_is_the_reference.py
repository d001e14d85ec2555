"""Law 1: on CPU in fp32, the engine is the reference sampler to the bit, however much company a request has.

Whatever the batch, the order of arrival, the size of the cache (and so who is interrupted), the row
budget (and so how prompts are cut), shared prompts or none.
"""

import random
from dataclasses import replace
from functools import cache
from itertools import count

import pytest
import torch
from torch import Tensor

from tests.engine.bits import assert_same, bits_hold, exact_dtype, unpriced
from tests.engine.golden_traces import SDAR
from tests.engine.models import KINDS, model_of
from tests.engine.writers import (
    Ask,
    by_engine,
    by_reference,
    dense_logits,
    pinned_asks,
    prompt_of,
    results_of,
    revising_asks,
    sharing_asks,
    some_asks,
    trajectory_of,
)
from unmask.checkpoints.checkpoint import load_model
from unmask.diffusion.reference_sampler import sample
from unmask.diffusion.sampling_tensors import ENTROPY_SUMS, SCHEDULES, STRATEGIES
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.request import resolve
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

# Page counts and budgets that force waiting, interruptions, cuts and turns; the last as on CUDA.
SIZES = {
    "default": EngineParams(),
    "few sequences": EngineParams(max_sequences=3),
    "few pages": EngineParams(cache_tokens=5 * 64),
    "few rows": EngineParams(row_budget=20),
    "few of all": EngineParams(max_sequences=8, row_budget=40, cache_tokens=6 * 64),
    "nothing shared": EngineParams(shares_prefixes=False),
    "commits apart": EngineParams(fuses_commit=False, cache_tokens=6 * 64),
    "read late": EngineParams(max_sequences=6, reads_late=True, cache_tokens=8 * 64, row_budget=60),
}


@cache
def toy(kind: str) -> Model:
    return model_of(kind, exact_dtype())


@cache
def expected(kind: str) -> tuple[list[Ask], list[Trajectory]]:
    """Return requests that share prompts, and what the reference sampler writes."""
    asks = sharing_asks(11, 3, toy(kind))
    return asks, unpriced([by_reference(toy(kind), ask) for ask in asks])


def test_what_is_drawn_covers_what_there_is() -> None:
    """Every value of every field that changes how tokens are written, in company."""
    asked = [params for _, params in some_asks(24, 5, toy("canvas"), 40)]
    assert {p.strategy for p in asked} == set(STRATEGIES)
    assert {p.schedule for p in asked} == set(SCHEDULES)
    bounded = {p.entropy_sum for p in asked if p.strategy == "entropy_bounded"}
    assert bounded == set(ENTROPY_SUMS)
    revising = {(p.edit_threshold is None, p.remask_threshold is None) for p in asked}
    assert len(revising) == 4
    assert len({p.sub_block_size for p in asked}) == 3
    assert {p.confidence for p in asked} == {"raw", "filtered"}
    assert {p.temperature for p in asked} == {0, 0.7, 1, 1.5}
    assert {p.is_filtered for p in asked} == {True, False}


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_at_batch_1_2_and_16(kind: str) -> None:
    model = toy(kind)
    asks = some_asks(16, 8, model, 40)
    expected = [by_reference(model, ask) for ask in asks]
    assert {t.finish for t in expected} == {"stop", "length"}
    assert {t.revised for t in expected} == {True, False}
    for size in (1, 2, 16):
        batches = [asks[i : i + size] for i in range(0, len(asks), size)]
        assert_same([t for batch in batches for t in by_engine(model, batch)], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_whose_first_tokens_are_no_stop_tokens(kind: str) -> None:
    """In company with requests whose first tokens may be; many stop tokens, so that they would be."""
    model, stops = toy(kind), tuple(range(2, 12))
    plain = [(ids, replace(p, stop_token_ids=stops)) for ids, p in some_asks(9, 12, model, 40)]
    asks = [(ids, replace(p, min_tokens=-(-p.max_tokens // 2))) for ids, p in plain]
    expected = [by_reference(model, ask) for ask in (*asks, *plain[:3])]
    assert {t.finish for t in expected[:9]} == {"stop", "length"}
    for (_, params), written in zip(asks, expected, strict=False):
        early = written.response_ids[: params.min_tokens]
        assert len(early) == params.min_tokens and not {*early} & {*stops}
    assert any(t.num_response < p.min_tokens for t, (_, p) in zip(expected[9:], asks, strict=False))
    assert_same(by_engine(model, [*asks, *plain[:3]]), expected)
    for ask, one in zip(asks[:2], expected, strict=False):
        assert_same(by_engine(model, [ask]), [one])


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_with_pinned_tokens(kind: str) -> None:
    """Few and many, whole blocks of them, in company with requests that pin none."""
    model = toy(kind)
    plain = some_asks(16, 6, model, 40)
    asks = [*pinned_asks(plain, 1), *plain[:4]]
    expected = [by_reference(model, ask) for ask in asks]
    blocks = [t.step_map[i : i + 4] for t in expected for i in range(0, len(t.step_map), 4)]
    assert any(not any(block) for block in blocks), "a block of pinned tokens"
    for (_, params), written in zip(asks, expected, strict=True):
        for position, token in params.pinned:
            assert written.canvas_ids[position] == token and not written.step_map[position]
            assert not written.behavior_logprobs[position] and not written.entropies[position]
        ends = written.num_response - 1
        assert written.finish == "length" or ends >= params.first_end
    assert_same(by_engine(model, asks), expected)
    for name in ("few of all", "read late", "commits apart"):
        assert_same(unpriced(by_engine(model, asks, SIZES[name])), unpriced(expected))


# Under full attention nothing is shared or interrupted; experts are a matter of the batch.
ROWS_ALONE = ("few sequences", "few rows", "read late")


@pytest.mark.parametrize(
    ("kind", "size"),
    [(k, s) for k in KINDS for s in (SIZES if k in ("blocks", "blocks, shifted") else ROWS_ALONE)],
)
def test_trajectories_at_any_size_of_the_engine(kind: str, size: str) -> None:
    """In shuffled order of arrival, on prompts of up to two pages."""
    asks, written = expected(kind)
    order = random.Random(size).sample(range(len(asks)), len(asks))
    results = by_engine(toy(kind), [asks[i] for i in order], SIZES[size])
    assert_same(unpriced(results), [written[i] for i in order])


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *(("blocks", "default"), ("blocks", "read late")),
        *(("blocks, shifted", "few pages"), ("canvas", "read late")),
    ],
)
def test_revisions_while_weights_change(kind: str, size: str) -> None:
    """Each change interrupts every request; the record of what was overwritten goes on."""
    model = toy(kind)
    asks = revising_asks(10, 6, model, longest=70, temperature=1.0)
    engine = Engine(model, SIZES[size])
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    found: dict[int, Trajectory] = {}
    for tick in count(1):
        found |= {n: trajectory_of(t) for n, t in results_of(engine.tick()).items()}
        if engine.is_idle:
            break
        if tick % 5 == 0:
            engine.update_weights(continues=True)
    written = [found[number] for number in numbers]
    assert sum(len(t.revisions) for t in written) > 20
    assert any(r.policy_version == 0 for t in written for r in t.revisions)
    unversioned = [
        replace(
            t,
            policy_version=0,
            policy_versions=(),
            revisions=tuple(replace(r, policy_version=None) for r in t.revisions),
        )
        for t in written
    ]
    expected = [by_reference(model, ask) for ask in asks]
    assert {t.num_steps - max(t.step_map) for t in expected} == {0, 1}
    assert_same(unpriced(unversioned), unpriced(expected))


@pytest.mark.parametrize("size", ["default", "read late"])
def test_revisions_with_guidance_are_recorded_once(size: str) -> None:
    """The twin that guides a sequence takes its tokens and has no record of its own."""
    asks = revising_asks(5, 2, toy("canvas"), guidance=1.5)
    expected = [by_reference(toy("canvas"), ask) for ask in asks]
    assert sum(len(t.revisions) for t in expected) > 20
    assert_same(unpriced(by_engine(toy("canvas"), asks, SIZES[size])), unpriced(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_of_a_group(kind: str) -> None:
    """Sixteen answers to one long prompt, which is fed once where attention allows it."""
    rng = random.Random(2)
    ids = [rng.randrange(24) for _ in range(75)]
    asks = [
        (ids, params) for _, params in some_asks(16, 9, toy(kind), block_size=None, max_tokens=6)
    ]
    results = by_engine(toy(kind), asks)
    assert_same(results, [by_reference(toy(kind), ask) for ask in asks])


def test_trajectories_of_near_ties_in_company() -> None:
    """One token over and over: a last bit that hangs on what the others ask for decides."""
    model = toy("canvas, experts")
    asks = [
        ([1] * 75, params) for _, params in some_asks(8, 9, model, block_size=None, max_tokens=6)
    ]
    assert {params.confidence for _, params in asks} == {"raw", "filtered"}
    assert_same(by_engine(model, asks), [by_reference(model, ask) for ask in asks])


def test_trajectories_of_published_weights() -> None:
    model = load_model(SDAR, dtype=exact_dtype())
    asks = some_asks(2 * len(STRATEGIES), 1, model)
    assert_same(by_engine(model, asks), [by_reference(model, ask) for ask in asks])


@pytest.mark.parametrize("kind", ["blocks", "canvas"])
def test_long_and_short_requests_together(kind: str) -> None:
    """Key counts on either side of where padding goes in larger steps."""
    rng = random.Random(5)
    asks = [
        ([rng.randrange(24) for _ in range(num_prompt)], SamplingParams(max_tokens=6, seed=i))
        for i, num_prompt in enumerate((3, 100, 125, 127, 140, 190, 222, 507, 515))
    ]
    assert_same(by_engine(toy(kind), asks), [by_reference(toy(kind), ask) for ask in asks])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_every_scored_row(kind: str) -> None:
    """Tick by tick, each row the engine scores against the same position of the dense forward."""
    if not bits_hold():
        pytest.skip("this CPU does not keep the bits")
    model = toy(kind)
    for ids, asked in some_asks(8, 7, model, 30):
        params = resolve(prompt_of(ids), asked, model.spec)
        assert params.block_size is not None
        dense: list[Tensor] = []
        forward = dense_logits(model, params.block_size)

        def recorded(ids: Tensor, forward=forward, dense=dense) -> Tensor:
            dense.append(forward(ids))
            return dense[-1]

        sample(prompt_of(ids), params, recorded, conventions_of(model))
        ticks: list[tuple[Tensor, Tensor]] = []
        hook = model.register_forward_hook(
            lambda _, inputs, logits, ticks=ticks: ticks.append((inputs[1][inputs[3]], logits))
        )
        try:
            engine = Engine(model)
            engine.submit(prompt_of(ids), params)
            list(engine.collect())
        finally:
            hook.remove()
        assert len(ticks) == len(dense)
        for (positions, logits), expected in zip(ticks, dense, strict=True):
            assert torch.equal(logits, expected[0, positions])
