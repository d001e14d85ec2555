"""The engine writes what the published programs wrote, for whoever shares its ticks."""

from dataclasses import replace

import pytest
import torch

from tests.engine.bits import assert_same, exact_dtype
from tests.engine.golden_traces import SDAR, Trace, golden_traces, path_of
from tests.engine.writers import by_engine, by_reference, prompt_of, some_asks
from tests.toy import SPEC, toy_model
from unmask.engine.engine import Engine
from unmask.engine.params import EngineParams
from unmask.models.checkpoint import load_model
from unmask.models.transformer import Model
from unmask.types import SamplingParams

NO_STOP = SamplingParams(strategy="static", stop_token_ids=(), max_tokens=10)


@pytest.fixture(scope="module")
def golden() -> Model:
    return load_model(SDAR)


@pytest.fixture(scope="module")
def model() -> Model:
    return toy_model(1, exact_dtype())


@pytest.mark.parametrize("trace", golden_traces())
def test_golden_traces(trace: Trace, golden: Model) -> None:
    assert [path_of(t) for t in by_engine(golden, trace.asks)] == trace.expected


def test_all_golden_traces_at_once(golden: Model) -> None:
    traces = [param.values[0] for param in golden_traces()]
    asks = [ask for trace in traces for ask in trace.asks]
    expected = [path for trace in traces for path in trace.expected]
    assert [path_of(t) for t in by_engine(golden, asks)] == expected


def test_a_result_does_not_depend_on_its_company(model: Model) -> None:
    """Alone, among others, in another order, with one slot or three: the same trajectory."""
    asks = some_asks(12)
    together = by_engine(model, asks)
    assert len({len(t.canvas_ids) for t in together}) > 3
    assert {t.finish for t in together} == {"stop", "length"}
    assert_same([by_engine(model, [ask])[0] for ask in asks], together)
    assert_same(by_engine(model, asks[::-1])[::-1], together)
    for max_slots in (1, 3):
        assert_same(by_engine(model, asks, EngineParams(max_slots=max_slots)), together)


def test_requests_may_come_while_others_run(model: Model) -> None:
    asks = some_asks(9, seed=1)
    engine, finished = Engine(model), {}
    for ids, sampling in asks:
        engine.submit(prompt_of(ids), sampling)
        finished |= dict(engine.tick())
    finished |= dict(engine.collect())
    assert engine.is_idle
    assert_same([finished[number] for number in range(9)], by_engine(model, asks))


def test_trajectories_come_as_they_end(model: Model) -> None:
    engine = Engine(model)
    lengths = {
        engine.submit(prompt_of([5]), replace(NO_STOP, max_tokens=m)): m for m in (30, 3, 15)
    }
    assert [lengths[number] for number, _ in engine.collect()] == [3, 15, 30]
    assert list(engine.collect()) == []


@pytest.mark.parametrize("num_prompt", [0, 1, 3, 4, 6])
def test_short_prompts(num_prompt: int, model: Model) -> None:
    ask = ([7] * num_prompt, NO_STOP)
    (result,) = by_engine(model, [ask])
    assert_same([result], [by_reference(model, ask)])
    assert result.num_response == 10 and (num_prompt + len(result.canvas_ids)) % 4 == 0


def test_a_response_ends_inside_a_block_where_max_tokens_says(model: Model) -> None:
    for max_tokens in range(1, 9):
        (result,) = by_engine(model, [([7] * 3, replace(NO_STOP, max_tokens=max_tokens))])
        assert (result.num_response, result.finish) == (max_tokens, "length")
        assert all(result.step_map[:max_tokens])


def test_a_response_ends_inside_a_block_where_it_stops(model: Model) -> None:
    """Any id may be the stop: name one that stands in the middle of a block."""
    hot = replace(NO_STOP, max_tokens=20, temperature=2)
    (plain,) = by_engine(model, [([7] * 5, hot)])
    inside = {}
    for slot, token in enumerate(plain.response_ids):
        if token not in plain.response_ids[:slot] and (5 + slot) % 4 in (0, 1, 2):
            inside[token] = slot
    assert len(inside) >= 2
    for token, slot in inside.items():
        ask = ([7] * 5, replace(hot, stop_token_ids=(token,)))
        (result,) = by_engine(model, [ask])
        assert (result.num_response, result.finish) == (slot + 1, "stop")
        assert result.response_ids == plain.canvas_ids[: slot + 1]
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
    assert fused.num_forwards == fused.num_denoising_steps == len(set(fused.step_map) - {0})
    (separate,) = by_engine(model, [([7] * num_prompt, NO_STOP)], EngineParams(fuses_commit=False))
    num_blocks = (num_prompt + len(fused.canvas_ids)) // 4
    prefill = num_prompt >= 4
    commits = num_blocks - num_prompt // 4 - 1
    assert separate.num_forwards == fused.num_forwards + prefill + commits


def test_trajectories_say_who_wrote_them_and_how(model: Model) -> None:
    engine = Engine(model)
    sampling = SamplingParams(max_tokens=3)
    engine.submit(prompt_of([5]), sampling)
    engine_results = list(engine.collect())
    engine.update_weights()
    engine.submit(prompt_of([5]), sampling)
    engine_results += list(engine.collect())
    assert [(n, t.policy_version) for n, t in engine_results] == [(0, 0), (1, 1)]
    filled = replace(sampling, block_size=SPEC.block_size, stop_token_ids=SPEC.eos_ids)
    assert engine_results[0][1].sampling == filled and engine.policy_version == 1


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


def test_nothing_of_the_old_weights_is_remembered() -> None:
    model = toy_model(1)
    engine = Engine(model)
    engine.submit(prompt_of([5] * 9), NO_STOP)
    list(engine.collect())
    model.load_state_dict(toy_model(2).state_dict())
    engine.update_weights()
    engine.submit(prompt_of([5] * 9), NO_STOP)
    ((_, after),) = engine.collect()
    assert replace(after, policy_version=0) == by_engine(toy_model(2), [([5] * 9, NO_STOP)])[0]


def test_a_refused_request_is_not_queued(model: Model) -> None:
    engine = Engine(model)
    with pytest.raises(ValueError, match="token id 99"):
        engine.submit(prompt_of([99]), NO_STOP)
    assert engine.is_idle
    assert engine.submit(prompt_of([5]), NO_STOP) == 0


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_tick_that_fails_can_be_taken_again(
    is_busy: bool, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory while requests are let in: they go on waiting, and nobody is lost."""

    def no_memory(*arguments: object) -> None:
        raise MemoryError

    asks = some_asks(4, seed=2)
    engine, finished = Engine(model), {}
    for ids, sampling in asks[: 2 * is_busy]:
        engine.submit(prompt_of(ids), sampling)
    finished |= dict(engine.tick())
    for ids, sampling in asks[2 * is_busy :]:
        engine.submit(prompt_of(ids), sampling)
    for name in ("open_slots", "join") if is_busy else ("open_slots",):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(f"unmask.engine.engine.{name}", no_memory)
            engine.tick()
    finished |= dict(engine.collect())
    assert_same([finished[number] for number in range(4)], by_engine(model, asks))


def test_abort_drops_what_waits_and_runs_and_frees_its_pages(model: Model) -> None:
    engine = Engine(model, EngineParams(max_slots=2))
    for ids, sampling in some_asks(5):
        engine.submit(prompt_of(ids), sampling)
    engine.tick()
    engine.abort()
    assert engine.is_idle and list(engine.collect()) == []
    engine.update_weights()
    asks = some_asks(6, seed=1)
    numbers = [engine.submit(prompt_of(ids), sampling) for ids, sampling in asks]
    finished = dict(engine.collect())
    written = [replace(finished[number], policy_version=0) for number in numbers]
    assert_same(written, by_engine(model, asks))


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
