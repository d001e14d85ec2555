"""What goes wrong in the engines that exist, one test each; the numbers are those of the survey (J1-J22).

Not tested here, because there is nothing of the kind in this engine:

- J6 (a GPU grid that walks a sequence's query tiles one by one): tests/engine/kernels hold the kernel.
- J15, J16 (shared memory and ports of tensor parallelism): one process owns one device.
- J17 (no rope scaling, CPU, or block size per request): tests/models, and every test on CPU.
- J18 (a documented strategy and the one that runs differ; hidden penalties): law 1, and no penalties.
- J20 (a rate that counts tokens twice): the engine reports none, `Trajectory.num_forwards` is law 1's.

J5 adds that pages filled during decoding are never hashed. Nor are they here: prompts alone are
published, and a later prompt that holds an answer feeds that answer again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.bits import assert_same, exact_dtype
from tests.engine.writers import (
    Ask,
    by,
    by_engine,
    by_reference,
    prompt_of,
    results_of,
    some_asks,
    trajectory_of,
)
from tests.toy import toy_checkpoint, toy_model
from unmask.diffusion.sampling_tensors import STRATEGIES
from unmask.engine.batch_plan import Rows
from unmask.engine.engine import Engine
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import SequenceState
from unmask.models.attention import KEY_CHUNK
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams

PLAIN = SamplingParams(strategy="static", stop_token_ids=(), max_tokens=10)
BAD = 9  # a token the broken model cannot bear


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(1, exact_dtype(), head_width=16, max_length=1024)


@contextmanager
def fed_rows(engine: Engine) -> Iterator[list[int]]:
    """Note how many rows each pass feeds, padding not counted."""
    counts, inner = [], engine._runner.forward

    def forward(state: SequenceState, rows: Rows, scored: Tensor) -> Tensor:
        counts.append(int((rows.limit > 0).sum()))
        return inner(state, rows, scored)

    engine._runner.forward = forward  # type: ignore[method-assign]
    yield counts
    del engine._runner.forward


def pages_in_use(engine: Engine) -> int:
    available = engine._pages.num_available()
    assert available is not None and engine._pages.max_pages is not None
    return engine._pages.max_pages - available


def test_a_full_cache_is_no_livelock(model: Model) -> None:
    """J1, J2, J22: sequences without a page for their next block keep theirs, and all wait for ever.

    Here: a cache of one sequence and one page, twelve requests.
    """
    asks = [(ids[:9], replace(p, max_tokens=70, stop_token_ids=())) for ids, p in some_asks(12, 0)]
    engine = Engine(model, EngineParams(cache_tokens=3 * KEY_CHUNK))
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    finished: dict[int, Any] = {}
    for _ in range(12 * 120):
        finished |= results_of(engine.tick())
        if engine.is_idle:
            break
    assert sorted(finished) == numbers
    assert all(trajectory_of(result).num_response == 70 for result in finished.values())


def test_a_request_that_can_never_fit_is_refused_with_the_numbers(model: Model) -> None:
    """J1: it waits for ever, or is dropped after a while with a warning."""
    engine = Engine(model, EngineParams(cache_tokens=2 * KEY_CHUNK))
    message = (
        r"prompt of 100 tokens and max_tokens = 40 take 3 pages of the cache, which has 2; lower"
    )
    with pytest.raises(ValueError, match=message):
        engine.submit(prompt_of([5] * 100), replace(PLAIN, max_tokens=40))
    assert engine.is_idle
    by(engine, [([5] * 88, replace(PLAIN, max_tokens=40))])


@pytest.mark.parametrize(("num_prompt", "admitted"), [(40, 2), (60, 1)])
def test_admission_reserves_what_running_requests_will_need(
    num_prompt: int, admitted: int, model: Model
) -> None:
    """J2, J22: room is checked for the prompt alone, so a batch is let in that cannot take a step.

    Either prompt fills one page of four. The reserve is a page to grow for each that runs, and for
    the longer prompt a page for its first two blocks.
    """
    engine = Engine(model, EngineParams(cache_tokens=4 * KEY_CHUNK, shares_prefixes=False))
    for seed in range(8):
        engine.submit(prompt_of([5] * num_prompt), replace(PLAIN, max_tokens=60, seed=seed))
    counts, interrupted, inner = [], [], engine._scheduler._preempt
    engine._scheduler._preempt = lambda index: (interrupted.append(index), inner(index))[1]  # type: ignore[method-assign]
    while not engine.is_idle:
        engine.tick()
        counts.append(len(engine._scheduler.running))
    assert max(counts) == admitted and not interrupted


def test_prompts_keep_to_the_row_budget(model: Model) -> None:
    """J3: the limit is ignored in prefill; many long prompts at once run out of memory."""
    engine = Engine(model, EngineParams(row_budget=64, shares_prefixes=False))
    asks = [([5 + seed] * 90, replace(PLAIN, seed=seed)) for seed in range(6)]
    with fed_rows(engine) as counts:
        written = by(engine, asks)
    assert max(counts) <= 64 and sum(counts) >= 6 * 90
    assert [t.response_ids for t in written] == [t.response_ids for t in by_engine(model, asks)]


def test_nothing_runs_past_the_length_of_the_model(model: Model) -> None:
    """J4: positions the model has never seen are written in silence."""
    with pytest.raises(ValueError, match="take 1025 positions, but the model has 1024"):
        Engine(model).submit(prompt_of([5] * 24), replace(PLAIN, max_tokens=1001))


def test_a_shared_prompt_is_fed_once(model: Model) -> None:
    """J5: a hit of the prefix cache saves memory only, and is computed again."""
    prompt = [number % 20 for number in range(161)]
    asks = [(prompt, replace(PLAIN, seed=seed)) for seed in range(16)]
    wide = EngineParams(row_budget=10**6)  # padding of more passes would count as well
    engine, apart = Engine(model, wide), Engine(model, replace(wide, shares_prefixes=False))
    with fed_rows(engine) as shared, fed_rows(apart) as separate:
        assert_same(by(engine, asks), by(apart, asks))
    # Fifteen answers do not feed the prompt's forty blocks.
    assert sum(separate) - sum(shared) == 15 * 160


def test_text_that_is_no_whole_page_is_shared_too(model: Model) -> None:
    """J5: only whole pages are."""
    asks = [([7] * 50, replace(PLAIN, seed=seed)) for seed in range(4)]
    engine, apart = Engine(model), Engine(model, EngineParams(shares_prefixes=False))
    with fed_rows(engine) as shared, fed_rows(apart) as separate:
        assert_same(by(engine, asks), by(apart, asks))
    assert sum(separate) - sum(shared) == 3 * 48


@pytest.mark.parametrize("block", [8, 16, 32])
def test_a_stop_id_in_the_prompts_tail_ends_nothing(block: int, model: Model) -> None:
    """J7: the scan for stops includes what of the prompt stands in the first block: empty answers."""
    prompts = [[5] * (block - 1) + [3] * (tail + 1) for tail in range(1, block)]
    params = replace(PLAIN, block_size=block, stop_token_ids=(3,))
    for result in by_engine(model, [(ids, params) for ids in prompts]):
        ends = [index for index, token in enumerate(result.canvas_ids[:10]) if token == 3]
        assert result.num_response == (ends[0] + 1 if ends else 10)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_quota_above_the_masks_writes_over_nothing(strategy: Any, model: Model) -> None:
    """J8: top-k reaches into positions that are decided; prompt and written tokens change."""
    sampling = replace(PLAIN, strategy=strategy, block_size=8, denoising_steps=3, schedule="block")
    for num_prompt in range(8):
        ids = [3] * num_prompt
        engine = Engine(model)
        engine.submit(prompt_of(ids), sampling)
        held = torch.tensor(ids)  # what is decided, by position
        decided = torch.arange(num_prompt)
        while not engine.is_idle:
            finished = engine.tick()
            assert engine._state is not None
            tokens, step_map = engine._state.tokens[0], engine._state.step_map[0]
            assert torch.equal(tokens[decided], held)
            decided = torch.cat([torch.arange(num_prompt), step_map.nonzero()[:, 0]])
            held = tokens[decided].clone()
        (result,) = results_of(finished).values()
        assert_same([trajectory_of(result)], [by_reference(model, (ids, sampling))])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_mask_token_is_in_a_finished_response(strategy: Any) -> None:
    """J9: a model that prefers the mask token gets it: a block is committed with masks, or never ends."""
    model = toy_model(0)
    with torch.no_grad():
        model.head.projection.weight[1] = model.head.projection.weight.sum(0) * 5
    for temperature in (0.0, 1.0):
        asks = [
            ([5] * n, replace(PLAIN, strategy=strategy, temperature=temperature, denoising_steps=2))
            for n in range(4)
        ]
        for result in by_engine(model, asks):
            assert 1 not in result.response_ids and all(result.step_map[:10])


def test_requests_of_one_batch_keep_their_own_parameters(model: Model) -> None:
    """J10, J21: strategies crash in company, or everyone is sampled with the first one's temperature."""
    asks = [
        ([5] * 6, replace(PLAIN, strategy=strategy, temperature=t, top_k=k, block_size=b, seed=3))
        for strategy in STRATEGIES
        for t, k, b in ((0.0, 0, 4), (1.5, 3, 8))
    ]
    engine = Engine(model)
    assert_same(by(engine, asks), [by_reference(model, ask) for ask in asks])
    assert_same(by(engine, asks[:1] * 3), [by_reference(model, asks[0])] * 3)


@pytest.mark.parametrize("place", ["prompt", "response"])
def test_no_id_is_cleaned_away(place: str, tmp_path: Any) -> None:
    """J11, J12: ids past the tokenizer's plain vocabulary become "!", prompts are cut at the first pad id."""
    llm = LLM(toy_checkpoint(tmp_path))
    every = list(range(llm.model.spec.vocab_size))
    if place == "prompt":
        engine = llm.engine
        engine.submit(prompt_of(every), PLAIN)
        (result,) = results_of(engine.collect()).values()
        assert trajectory_of(result).prompt.token_ids == tuple(every)
        return
    with torch.no_grad():
        llm.model.head.projection.weight.zero_()
    sampling = replace(PLAIN, max_tokens=100, top_k=0)
    (one,) = llm.generate([[5]], replace(sampling, seed=1))
    drawn = set(one.token_ids)
    assert drawn == set(every) - {llm.model.spec.mask_id}, "every id but the mask, as drawn"
    assert len(one.token_ids) == 100


def test_the_mask_id_is_the_one_that_was_named(model: Model) -> None:
    """J13: the tokenizer's pad id takes the place of a mask id that the caller gave."""
    named = toy_model(1, mask_id=17)
    seen: list[Tensor] = []
    handle = named.register_forward_hook(
        lambda _, inputs, logits: seen.append(inputs[0][:4].clone())
    )
    by_engine(named, [([], PLAIN)])
    handle.remove()
    assert seen[0].tolist() == [17] * 4


def test_an_error_is_an_error_and_not_an_empty_answer() -> None:
    """J14: workers swallow exceptions, and the answer "" is graded as wrong."""
    model = toy_model(1)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("out of luck")

    engine = Engine(model)
    engine.submit(prompt_of([5]), PLAIN)
    handle = model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        list(engine.collect())
    handle.remove()
    engine.abort()
    assert engine.is_idle


def test_the_head_runs_on_the_positions_that_are_scored(model: Model) -> None:
    """J19: logits of every position of every canvas are kept at once."""
    rows: list[int] = []
    handle = model.head.register_forward_hook(lambda _, inputs, logits: rows.append(len(logits)))
    sampling = replace(PLAIN, max_tokens=8)
    by_engine(model, [([5] * 100, sampling)] * 8, EngineParams(shares_prefixes=False))
    handle.remove()
    assert rows == [32, 24, 16, 8] * 2, "the masks of eight blocks of four, one fewer in each step"


# Edge cases of samplers, section 1.6 of the survey.


def test_the_likeliest_of_equals_is_the_leftmost() -> None:
    """Ties: top-k's order is undefined."""
    model = toy_model(0)
    with torch.no_grad():
        model.head.projection.weight.zero_()
    (result,) = by_engine(model, [([5] * 4, replace(PLAIN, temperature=0))])
    assert result.step_map[:10] == tuple(range(1, 11)) and set(result.response_ids) == {0}


@pytest.mark.parametrize("strategy", ["dynamic", "factor", "entropy_bounded"])
def test_a_strategy_that_never_is_sure_ends(strategy: Any) -> None:
    """Fewer steps than positions: masks are left and committed; no position above the threshold: no end."""
    model = toy_model(0)
    with torch.no_grad():
        model.head.projection.weight.zero_()
    for steps in (None, 1, 2, 3):
        sampling = replace(PLAIN, strategy=strategy, denoising_steps=steps, entropy_bound=0.0)
        (result,) = by_engine(model, [([5] * 3, sampling)])
        assert result.num_response == 10 and all(result.step_map[:10])


def test_a_filtered_or_cold_proposal_does_not_look_surer(model: Model) -> None:
    """top_k = 1 or a small temperature makes every position certain: whole blocks are accepted at once."""
    sharp = replace(PLAIN, strategy="dynamic", threshold=0.9, temperature=1e-3, max_tokens=16)
    greedy = by_engine(model, [([5] * 4, replace(sharp, temperature=0))])[0]
    for sampling in (sharp, replace(sharp, temperature=1, top_k=1)):
        (result,) = by_engine(model, [([5] * 4, sampling)])
        assert result.step_map == greedy.step_map and result.canvas_ids == greedy.canvas_ids


def test_a_finished_row_does_not_wait_for_the_slowest(model: Model) -> None:
    """Rows of a full-attention batch advance together, and a block ends when the last one's does."""
    canvas = toy_model(1, attention="full", block_size=4, head_width=16)
    quick, slow = replace(PLAIN, denoising_steps=1), replace(PLAIN, max_tokens=12)
    first, second = by_engine(canvas, [([5] * 3, quick), ([6] * 9, slow)])
    assert (first.num_forwards, second.num_forwards) == (3, 12)


# Logits that are not numbers.


def broken_model(where: str, **changes: Any) -> Model:
    """Return a model whose logits are NaN for texts with the token `BAD`: from the head on, or from the start."""
    model = toy_model(1, exact_dtype(), head_width=16, max_length=1024, **changes)
    if where == "keys":
        with torch.no_grad():
            model.backbone.embedding.weight[BAD] = torch.nan
    return model


def nan_asks() -> tuple[list[Ask], list[int]]:
    """Return requests, and which of them the broken model cannot answer."""
    calm = [([5, 6, 7] * 4, replace(PLAIN, seed=seed, top_k=1)) for seed in range(6)]
    bad = [([5, BAD, 7] * 20, replace(PLAIN, seed=1)), ([BAD], replace(PLAIN, strategy="random"))]
    return [*calm[:3], *bad, *calm[3:]], [3, 4]


@pytest.mark.parametrize(
    "changes", [{}, {"attention": "full", "block_size": 4}], ids=["blocks", "canvas"]
)
@pytest.mark.parametrize(
    "size",
    [EngineParams(), EngineParams(max_sequences=1), EngineParams(reads_late=True)],
    ids=["together", "one by one", "late"],
)
def test_logits_that_are_not_numbers_end_one_request(
    changes: dict[str, Any], size: EngineParams
) -> None:
    """A NaN never passes a threshold but passes top-k first; a row of NaN spoils the batch."""
    broken = broken_model("keys", **changes)
    with torch.no_grad():
        broken.head.drawable[BAD] = False
    fine = broken_model("head", **changes)
    fine.head.drawable[BAD] = False
    asks, bad = nan_asks()
    engine = Engine(broken, size)
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    finished = results_of(engine.collect())
    assert sorted(finished) == numbers
    for number in bad:
        assert isinstance(finished[number], ValueError)
        assert str(finished[number]).startswith(f"request {number}: the model's logits are not num")
    calm = [number for number in numbers if number not in bad]
    expected = [by_reference(fine, asks[number]) for number in calm]
    assert_same([trajectory_of(finished[number]) for number in calm], expected)


def test_pages_of_a_broken_request_do_not_affect_later_requests() -> None:
    """A masked key of NaN still spoils the weighted sum of values: 0 * NaN."""
    broken = broken_model("keys")
    broken.head.drawable[BAD] = False
    fine = broken_model("head")
    fine.head.drawable[BAD] = False
    engine = Engine(broken, EngineParams(cache_tokens=4 * KEY_CHUNK))
    engine.submit(prompt_of([5, BAD, 7] * 40), PLAIN)
    (result,) = results_of(engine.collect()).values()
    assert isinstance(result, ValueError)
    asks = [([5] * n, replace(PLAIN, seed=n)) for n in (3, 50, 70)]
    expected = [by_reference(fine, ask) for ask in asks]
    assert_same(by(engine, asks), expected)


def test_padding_rows_of_a_broken_request_do_not_affect_others() -> None:
    """Rows that fill a tile repeat a row of the last sequence; long texts read a few pages too many."""
    broken, fine = broken_model("keys"), broken_model("head")
    broken.head.drawable[BAD] = fine.head.drawable[BAD] = False
    asks = [([5] * 530, PLAIN), ([BAD] * 701, PLAIN)]
    engine = Engine(broken)
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    finished = results_of(engine.collect())
    assert isinstance(finished[numbers[1]], ValueError)
    assert_same([trajectory_of(finished[numbers[0]])], [by_reference(fine, asks[0])])


# Who leaves gives back what it held.


@pytest.mark.parametrize("late", [False, True])
def test_finished_and_aborted_requests_give_their_pages_back(late: bool, model: Model) -> None:
    """Ctrl-C and abort free their pages."""
    engine = Engine(model, EngineParams(cache_tokens=8 * KEY_CHUNK, reads_late=late))
    numbers = [engine.submit(prompt_of([5 + n] * 20), PLAIN) for n in range(3)]
    engine.tick()
    assert pages_in_use(engine) == 3
    engine.abort(numbers[1])
    assert pages_in_use(engine) == 2
    list(engine.collect())
    assert pages_in_use(engine) == 0


def test_an_preempt_in_the_middle_of_a_pass_frees_every_page(tmp_path: Any) -> None:
    """Ctrl-C during generation: the next call finds an engine as good as new."""
    llm = LLM(toy_checkpoint(tmp_path), params=EngineParams(cache_tokens=8 * KEY_CHUNK))
    prompts, sampling = [[5] * n for n in (3, 50, 60)], replace(PLAIN, max_tokens=20)
    expected = llm.generate(prompts, sampling)
    passes = 0

    def strike(*arguments: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 5:
            raise KeyboardInterrupt

    handle = llm.model.backbone.layers[1].register_forward_hook(strike)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(prompts, sampling)
    handle.remove()
    assert llm.engine.is_idle and pages_in_use(llm.engine) == 0
    assert llm.generate(prompts, sampling) == expected
