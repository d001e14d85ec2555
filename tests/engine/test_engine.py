"""The engine writes what the published programs wrote, whichever requests share its ticks."""

from dataclasses import replace

import pytest
import torch

from tests.engine.bits import assert_same, exact_dtype, unpriced
from tests.engine.golden_traces import (
    FAMILIES,
    Trace,
    cached_traces,
    compared,
    golden_model,
    golden_traces,
    path_of,
    ranks,
)
from tests.engine.models import model_of
from tests.engine.writers import (
    by,
    by_engine,
    by_reference,
    prompt_of,
    results_of,
    some_asks,
    trajectory_of,
)
from tests.toy import SPEC, toy_model
from unmask.configs.engine import CacheMode
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams

NO_STOP = SamplingParams(strategy="static", stop_token_ids=(), max_tokens=10)


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(1, exact_dtype())


@pytest.mark.parametrize("trace", golden_traces())
def test_golden_traces(trace: Trace) -> None:
    written = by_engine(golden_model(trace), trace.asks)
    for trajectory, expected in zip(written, trace.expected, strict=True):
        assert ranks(path_of(trajectory, expected)) == ranks(expected)


@pytest.mark.parametrize("trace", cached_traces())
def test_golden_traces_with_an_approximate_cache(trace: Trace) -> None:
    """Fast-dLLM's prefix and dual caches; the exact engine writes something else in one of them."""
    params = EngineParams(cache=trace.cache)
    written = by_engine(golden_model(trace), trace.asks, params)
    for trajectory, expected in zip(written, trace.expected, strict=True):
        assert ranks(path_of(trajectory, expected)) == ranks(expected)


def test_the_approximate_caches_are_approximate() -> None:
    """Or the traces above would say nothing about them."""
    traces = [parameter.values[0] for parameter in cached_traces()]
    assert {trace.cache for trace in traces} == {"prefix", "dual"}
    model = model_of("canvas", exact_dtype())
    asks = some_asks(12, 0, model)
    exact = by_engine(model, asks)
    for cache in ("prefix", "dual", "window"):
        written = by_engine(model, asks, EngineParams(cache=cache, horizon=4))
        assert unpriced(written) != unpriced(exact)


@pytest.mark.parametrize("cache", ["prefix", "dual", "window"])
def test_an_approximate_result_does_not_depend_on_its_company_either(cache: CacheMode) -> None:
    model = model_of("canvas", exact_dtype())
    asks = some_asks(12, 0, model)
    together = by_engine(model, asks, EngineParams(cache=cache, horizon=4))
    alone = [by_engine(model, [ask], EngineParams(cache=cache, horizon=4))[0] for ask in asks]
    assert_same(alone, together)
    small = EngineParams(max_sequences=3, row_budget=40, cache=cache, horizon=4)
    assert_same(by_engine(model, asks, small), together)


def test_a_window_as_wide_as_the_canvas_is_the_prefix_cache() -> None:
    model = model_of("canvas", exact_dtype())
    asks = some_asks(8, 3, model)
    wide = by_engine(model, asks, EngineParams(cache="window", horizon=100))
    assert_same(wide, by_engine(model, asks, EngineParams(cache="prefix")))


def test_a_canvas_of_one_block_is_exact_under_any_cache() -> None:
    """A block's first pass feeds everything, and after a single one there is nothing left to keep."""
    model = model_of("canvas", exact_dtype())
    once = {"denoising_steps": 1, "block_size": 32, "sub_block_size": 32, "schedule": "even"}
    never = {"edit_threshold": None, "remask_threshold": None}
    asks = some_asks(8, 3, model, strategy="static", **once, **never)
    exact = by_engine(model, asks)
    for cache in ("prefix", "dual", "window"):
        assert_same(by_engine(model, asks, EngineParams(cache=cache)), exact)


def test_blocks_are_exact_under_any_cache_but_dual() -> None:
    model = model_of("blocks", exact_dtype())
    asks = some_asks(8, 3, model)
    exact = by_engine(model, asks)
    for cache in ("prefix", "window"):
        assert_same(by_engine(model, asks, EngineParams(cache=cache)), exact)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_golden_traces_of_a_family_at_once(family: str) -> None:
    by_model: dict[int, list[Trace]] = {}
    for trace in compared(family):
        by_model.setdefault(trace.mask_id, []).append(trace)
    for traces in by_model.values():
        asks = [ask for trace in traces for ask in trace.asks]
        responses = [expected for trace in traces for expected in trace.expected]
        written = by_engine(golden_model(traces[0]), asks)
        for trajectory, expected in zip(written, responses, strict=True):
            assert ranks(path_of(trajectory, expected)) == ranks(expected)


def test_guidance_of_blocks_is_refused(model: Model) -> None:
    engine = Engine(model)
    with pytest.raises(ValueError, match=r"guidance = 1\.5: .* under full attention, and that of"):
        engine.submit(prompt_of([5]), replace(NO_STOP, guidance=1.5))
    assert engine.is_idle


def test_requests_may_come_while_others_run(model: Model) -> None:
    asks = some_asks(9, seed=1)
    engine, finished = Engine(model), {}
    for ids, sampling in asks:
        engine.submit(prompt_of(ids), sampling)
        finished |= results_of(engine.tick())
    finished |= results_of(engine.collect())
    assert engine.is_idle
    assert_same([trajectory_of(finished[n]) for n in range(9)], by_engine(model, asks))


def test_trajectories_come_as_they_end(model: Model) -> None:
    engine = Engine(model)
    lengths = {
        engine.submit(prompt_of([5]), replace(NO_STOP, max_tokens=m)): m for m in (30, 3, 15)
    }
    assert [lengths[number] for number in results_of(engine.collect())] == [3, 15, 30]
    assert list(engine.collect()) == []


@pytest.mark.parametrize("num_prompt", [0, 1, 3, 4, 6])
def test_short_prompts(num_prompt: int, model: Model) -> None:
    ask = ([7] * num_prompt, NO_STOP)
    (result,) = by_engine(model, [ask])
    assert_same([result], [by_reference(model, ask)])
    assert result.num_response == 10 and (num_prompt + len(result.canvas_ids)) % 4 == 0


def test_a_response_ends_inside_a_block_at_max_tokens(model: Model) -> None:
    for max_tokens in range(1, 9):
        (result,) = by_engine(model, [([7] * 3, replace(NO_STOP, max_tokens=max_tokens))])
        assert (result.num_response, result.finish) == (max_tokens, "length")
        assert all(result.step_map[:max_tokens])


def test_a_response_ends_inside_a_block_where_it_stops(model: Model) -> None:
    """Any id may be the stop: name one that stands in the middle of a block."""
    hot = replace(NO_STOP, max_tokens=20, temperature=2)
    (plain,) = by_engine(model, [([7] * 5, hot)])
    inside = {}
    for index, token in enumerate(plain.response_ids):
        if token not in plain.response_ids[:index] and (5 + index) % 4 in (0, 1, 2):
            inside[token] = index
    assert len(inside) >= 2
    for token, index in inside.items():
        ask = ([7] * 5, replace(hot, stop_token_ids=(token,)))
        (result,) = by_engine(model, [ask])
        assert (result.num_response, result.finish) == (index + 1, "stop")
        assert result.response_ids == plain.canvas_ids[: index + 1]
        assert_same([result], [by_reference(model, ask)])


def test_stop_ids_of_a_prompt_do_not_end_its_response(model: Model) -> None:
    ids = [0, 5, 0, 0, 0, 6, 0]
    (plain,) = by_engine(model, [(ids, NO_STOP)])
    unused = next(t for t in range(20) if t not in plain.canvas_ids)
    stop = replace(NO_STOP, stop_token_ids=(unused,))
    (same,) = by_engine(model, [([unused if t == 0 else t for t in ids], stop)])
    assert same.num_response == 10 and same.finish == "length"


@pytest.mark.parametrize("num_prompt", [0, 3, 9])
def test_a_fused_forward_is_a_denoising_pass(num_prompt: int, model: Model) -> None:
    """Neither prefill nor commits cost a forward of their own."""
    (fused,) = by_engine(model, [([7] * num_prompt, NO_STOP)])
    assert fused.num_forwards == fused.num_steps == len(set(fused.step_map) - {0})
    (separate,) = by_engine(model, [([7] * num_prompt, NO_STOP)], EngineParams(fuses_commit=False))
    num_blocks = (num_prompt + len(fused.canvas_ids)) // 4
    prefill = num_prompt >= 4
    commits = num_blocks - num_prompt // 4 - 1
    assert separate.num_forwards == fused.num_forwards + prefill + commits


def test_trajectories_carry_policy_version_and_sampling(model: Model) -> None:
    engine = Engine(model)
    sampling = SamplingParams(max_tokens=3)
    (before,) = by(engine, [([5], sampling)])
    engine.update_weights()
    (after,) = by(engine, [([5], sampling)])
    assert (before.policy_version, after.policy_version) == (0, 1)
    assert before.sampling == replace(
        sampling, block_size=SPEC.block_size, stop_token_ids=SPEC.eos_ids
    )
    engine.update_weights(version=7)
    assert engine.policy_version == 7


def test_weights_do_not_change_while_requests_wait_or_run(model: Model) -> None:
    engine = Engine(model)
    engine.submit(prompt_of([5]), NO_STOP)
    with pytest.raises(ValueError, match="update_weights while requests are running"):
        engine.update_weights()
    engine.tick()
    with pytest.raises(ValueError, match="collect them first"):
        engine.update_weights()
    list(engine.collect())
    engine.update_weights()


def test_a_response_records_which_weights_wrote_which_token(model: Model) -> None:
    engine = Engine(model)
    engine.submit(prompt_of([5]), NO_STOP)
    for _ in range(3):
        engine.tick()
    engine.update_weights(version=4, continues=True)
    (trajectory,) = map(trajectory_of, results_of(engine.collect()).values())
    assert (trajectory.policy_version, trajectory.oldest_version) == (4, 0)
    steps = trajectory.step_map
    assert trajectory.policy_versions == tuple(0 if 0 < step <= 3 else 4 for step in steps)
    (whole,) = by(engine, [([5], NO_STOP)])
    assert (whole.policy_versions, whole.oldest_version) == ((), 4)


def test_requests_do_not_continue_on_an_approximate_cache() -> None:
    engine = Engine(toy_model(attention="full"), EngineParams(cache="prefix"))
    engine.submit(prompt_of([5]), NO_STOP)
    with pytest.raises(ValueError, match="requests go on with cache = 'exact', not 'prefix'"):
        engine.update_weights(continues=True)


@pytest.mark.parametrize("shares_the_module", [True, False])
def test_nothing_of_the_old_weights_is_remembered(shares_the_module: bool) -> None:
    """Not even of a prompt whose keys and values were shared."""
    model, other = toy_model(1), toy_model(2)
    engine, ask = Engine(model), ([5] * 80, NO_STOP)
    before = by(engine, [ask, ask])
    if shares_the_module:
        model.load_state_dict(other.state_dict())
        engine.update_weights()
    else:
        engine.update_weights(other.named_parameters(), version=1)
    after = by(engine, [ask, ask])
    assert [replace(t, policy_version=0) for t in after] == by_engine(other, [ask, ask])
    assert after[0].response_ids != before[0].response_ids


def test_weights_that_do_not_fit_are_refused_by_name(model: Model) -> None:
    engine = Engine(toy_model())
    name, weight = next(iter(engine.model.named_parameters()))
    with pytest.raises(ValueError, match=rf"update_weights: {name} has shape \(3, 3\)"):
        engine.update_weights([(name, torch.zeros(3, 3))])
    assert engine.policy_version == 0 and weight.shape != (3, 3)


def test_after_a_partial_update_nothing_of_the_old_weights_is_cached() -> None:
    model, ask = toy_model(1, max_length=256), ([5] * 144, NO_STOP)
    engine = Engine(model)
    by(engine, [ask])
    scaled = [(name, 1.5 * tensor) for name, tensor in model.named_parameters()]
    with pytest.raises(ValueError, match="the model has no parameter 'nope'; near it: "):
        engine.update_weights([*scaled, ("nope", torch.zeros(3))])
    assert by(engine, [ask]) == by_engine(model, [ask])


def test_numbers_that_are_none_do_not_come_back_with_a_shared_prompt() -> None:
    """Behind the prompt's last page stands what its owner wrote there."""
    model = toy_model(1)
    with torch.no_grad():
        model.backbone.embedding.weight[11] = torch.nan
    prompt, calm = [5, 6, 7, 8] * 12 + [5], replace(NO_STOP, temperature=0)
    alone = by_engine(model, [(prompt, calm)])
    broken = 0
    for seed in range(40):
        engine = Engine(model)
        engine.submit(prompt_of(prompt), replace(NO_STOP, seed=seed, temperature=8.0))
        (result,) = results_of(engine.collect()).values()
        broken += isinstance(result, ValueError)
        assert by(engine, [(prompt, calm)]) == alone
    assert broken


@pytest.mark.parametrize("others", [0, 3])
def test_what_may_be_revised_is_fed_whole_with_a_dual_cache(others: int) -> None:
    """Edits score what is written all over the block, not the open sub-block alone."""
    model = toy_model(1, exact_dtype(), block_size=8, sub_block_size=2)
    revising = replace(
        NO_STOP, strategy="dynamic", threshold=0.3, edit_threshold=0.2, temperature=1.5, seed=3
    )
    ask = ([5] * 12, replace(revising, max_tokens=24))
    plain = [([7] * (9 + i), replace(NO_STOP, seed=i, sub_block_size=8)) for i in range(others)]
    written = by_engine(model, [*plain, ask, *plain], EngineParams(cache="dual"))
    assert_same(written[others : others + 1], by_engine(model, [ask]))


def test_memory_is_given_back_and_taken_again(model: Model) -> None:
    engine = Engine(model)
    asks = some_asks(4)
    written = by(engine, asks)
    assert engine._pages.num_pages
    engine.release_memory()
    assert engine._pages.num_pages == 0
    assert_same(by(engine, asks), written)
    engine.submit(prompt_of([5]), NO_STOP)
    with pytest.raises(ValueError, match="release_memory while requests are running"):
        engine.release_memory()


def test_a_refused_request_is_not_queued(model: Model) -> None:
    engine = Engine(model)
    with pytest.raises(ValueError, match="token id 99"):
        engine.submit(prompt_of([99]), NO_STOP)
    assert engine.is_idle
    assert engine.submit(prompt_of([5]), NO_STOP) == 0


@pytest.mark.parametrize("where", ["open_sequences", "SequenceState.put", "PagePool.copy_page"])
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_tick_that_fails_can_be_taken_again(
    is_busy: bool, where: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory while requests are admitted: they go on waiting, and none is lost."""

    def no_memory(*arguments: object) -> None:
        raise MemoryError

    asks = [([5] * 70, NO_STOP), *some_asks(4, seed=2), ([5] * 71, NO_STOP)]
    engine, finished = Engine(model), {}
    for ids, sampling in asks[:1] * is_busy:
        engine.submit(prompt_of(ids), sampling)
    finished |= results_of(engine.tick())
    for ids, sampling in asks[is_busy:]:
        engine.submit(prompt_of(ids), sampling)
    if where == "PagePool.copy_page" and not is_busy:
        # The first one's prompt has to be cached before it can be copied.
        finished |= results_of(engine.tick())
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(f"unmask.engine.engine.{where}", no_memory)
        engine.tick()
    finished |= results_of(engine.collect())
    assert_same([trajectory_of(finished[n]) for n in range(6)], by_engine(model, asks))


def test_abort_drops_what_waits_and_runs_and_frees_its_pages(model: Model) -> None:
    engine = Engine(model, EngineParams(max_sequences=2))
    for ids, sampling in some_asks(5):
        engine.submit(prompt_of(ids), sampling)
    engine.tick()
    engine.abort()
    assert engine.is_idle and list(engine.collect()) == [] and engine._pages.num_pages == 0
    engine.update_weights()
    asks = some_asks(6, seed=1)
    written = [replace(t, policy_version=0) for t in by(engine, asks)]
    assert_same(written, by_engine(model, asks))


@pytest.mark.parametrize("late", [False, True])
def test_one_request_can_be_dropped_and_the_others_go_on(late: bool, model: Model) -> None:
    """Waiting or running, also where another request shares its prompt."""
    asks = [([5] * 70, replace(NO_STOP, seed=i)) for i in range(4)] + some_asks(4, seed=1)
    expected = by_engine(model, asks)
    for ticks in range(4):
        engine, finished = Engine(model, EngineParams(max_sequences=3, reads_late=late)), {}
        numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
        for _ in range(ticks):
            finished |= results_of(engine.tick())
        dropped = {0, 1, 7} - finished.keys()
        for number in dropped:
            engine.abort(number)
        finished |= results_of(engine.collect())
        left = [n for n in numbers if n not in dropped]
        assert sorted(finished) == left
        assert_same([trajectory_of(finished[n]) for n in left], [expected[n] for n in left])
    with pytest.raises(ValueError, match="request 0: neither waiting nor running"):
        engine.abort(0)


def test_only_drawable_ids_are_written() -> None:
    """Not the mask id and nothing past the tokenizer, though the model wants to."""
    model = toy_model(0)
    with torch.no_grad():
        model.head.projection.weight[[1, 21, 22]] *= 10
    results = by_engine(model, [([5], replace(NO_STOP, max_tokens=40, seed=s)) for s in range(8)])
    assert {t for r in results for t in r.response_ids} <= {0, *range(2, SPEC.num_drawable)}


def test_a_model_without_a_mask_id_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_id is unknown"):
        Engine(toy_model(mask_id=None))
