"""The reference sampler writes what the published programs wrote, and ends where it should."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.golden_traces import (
    Trace,
    compared,
    golden_model,
    golden_traces,
    path_of,
    ranks,
)
from tests.engine.writers import by_reference, dense_logits, prompt_of
from tests.toy import toy_model
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.reference_sampler import LogitsFn, find_end, sample
from unmask.diffusion.views import views_of_trajectory
from unmask.sampling_params import SamplingParams, Schedule, Strategy
from unmask.types import Trajectory

MASK = 9
ALPHABET = Conventions(MASK, torch.arange(10) != MASK)
CANVAS = replace(ALPHABET, is_full=True)
SHIFTED = replace(ALPHABET, is_shifted=True)
GREEDY = SamplingParams(
    temperature=0, block_size=4, stop_token_ids=(0,), max_tokens=8, strategy="static"
)


def test_the_golden_set_is_whole() -> None:
    """80 recorded traces; the twelve that are marked skip by name."""
    assert len(golden_traces()) == 80
    assert Counter(trace.family for trace in compared()) == {
        "sdar": 17,
        "sdar_moe": 12,
        "llada": 10,
        "llada_moe": 5,
        "llada2": 7,
        "dream": 8,
        "mmada": 6,
        "fast_dllm_v2": 3,
    }


@pytest.mark.parametrize("trace", golden_traces())
def test_golden_traces(trace: Trace) -> None:
    for ask, expected in zip(trace.asks, trace.expected, strict=True):
        written = by_reference(golden_model(trace), ask)
        assert ranks(path_of(written, expected)) == ranks(expected)
        assert written.raw_logprobs and (written.sampling.revises or not written.revised)


def test_the_golden_set_holds_edits_guidance_and_every_convention() -> None:
    traces = compared()
    asked = [params for trace in traces for _, params in trace.asks]
    assert {params.schedule for params in asked} == {"even", "block", "linear"}
    assert {p.strategy for p in asked} == {
        "static",
        "dynamic",
        "margin",
        "entropy",
        "left_to_right",
    }
    assert any(params.guidance for params in asked)
    edited = [by_reference(golden_model(t), a) for t in traces for a in t.asks if a[1].revises]
    assert any(trajectory.revised for trajectory in edited)


def sure_of(prompt_ids: list[int], response: list[int], shift: int = 0) -> LogitsFn:
    """Return a model that is sure of `response` at every position after the prompt, then of 1."""
    text = [*prompt_ids, *response, *[1] * 64]

    def logits_fn(ids: Tensor) -> Tensor:
        wanted = torch.tensor([text[shift : shift + ids.shape[1]]])
        # Surer from left to right within four positions, so that `static` starts at the right.
        sureness = 5.0 + (torch.arange(ids.shape[1]) + shift) % 4
        return torch.zeros(1, ids.shape[1], 10).scatter(
            2, wanted[..., None], sureness[None, :, None]
        )

    return logits_fn


def write(
    prompt_ids: list[int],
    response: list[int],
    params: SamplingParams = GREEDY,
    conventions: Conventions = ALPHABET,
) -> Trajectory:
    """Run the sampler on a model that is sure of `response`."""
    model = sure_of(prompt_ids, response, int(conventions.is_shifted))
    return sample(prompt_of(prompt_ids), params, model, conventions)


def test_a_canvas_ends_with_a_block() -> None:
    for num_prompt in range(9):
        for max_tokens in range(1, 9):
            result = write([5] * num_prompt, [], replace(GREEDY, max_tokens=max_tokens))
            assert (num_prompt + len(result.canvas_ids)) % 4 == 0
            assert result.finish == "length" and result.num_response == max_tokens
            assert 0 not in result.step_map[:max_tokens]


def test_under_full_attention_the_canvas_is_max_tokens_long() -> None:
    """Blocks are counted from the response's start, and the last one is as long as it is."""
    for num_prompt in range(4):
        for max_tokens in range(1, 10):
            params = replace(GREEDY, max_tokens=max_tokens, strategy="left_to_right")
            result = write([5] * num_prompt, [3, 4], params, CANVAS)
            assert result.canvas_ids == (3, 4, *[1] * 7)[:max_tokens]
            assert result.step_map == tuple(range(1, max_tokens + 1))
    two = replace(GREEDY, max_tokens=6, denoising_steps=2)
    assert write([5], [], two, CANVAS).step_map == (2, 1, 1, 2, 4, 3)


def test_under_full_attention_every_forward_holds_the_whole_canvas() -> None:
    lengths: list[int] = []

    def recorded(ids: Tensor) -> Tensor:
        lengths.append(ids.shape[1])
        return sure_of([5, 5], [3, 0])(ids)

    params = replace(GREEDY, strategy="left_to_right")
    result = sample(prompt_of([5, 5]), params, recorded, CANVAS)
    assert set(lengths) == {10}
    assert result.canvas_ids == (3, 0, *[MASK] * 6)
    assert (result.num_response, result.finish) == (2, "stop")


def test_sub_blocks_are_written_from_the_left() -> None:
    params = replace(GREEDY, sub_block_size=2)
    assert write([], [], params).step_map == (2, 1, 4, 3, 6, 5, 8, 7)
    assert write([5], [], params).step_map[:3] == (1, 3, 2)


def test_a_shifted_model_writes_a_position_off_the_row_before() -> None:
    """A block's first position, read off the block before, is written before the others open."""
    result = write([5, 5], [3, 4, 2, 0], replace(GREEDY, max_tokens=4), SHIFTED)
    assert result.response_ids == (3, 4, 2, 0)
    assert result.step_map == (2, 1, 3, 6, 5, 4)
    assert write([5, 5], [3, 4, 2, 0], GREEDY, replace(SHIFTED, is_full=True)).step_map[:4] == (
        *(2, 1, 4, 3),
    )


def test_a_shifted_model_needs_no_prompt_here() -> None:
    """The first position keeps its own row; the engine refuses the request instead."""
    result = sample(prompt_of([]), GREEDY, sure_of([], [7, 7], 1), SHIFTED)
    assert result.num_response == 8 and result.canvas_ids[0] == 7


def test_a_stop_waits_for_its_left_neighbours() -> None:
    """The stop token is revealed first and the response goes on until the positions left of it are."""
    result = write([], [3, 4, 5, 0])
    assert result.step_map == (4, 3, 2, 1)
    assert (result.num_response, result.finish, result.num_forwards) == (4, "stop", 4)


def test_a_stop_inside_a_block_leaves_the_rest_as_it_is() -> None:
    left_to_right = replace(GREEDY, strategy="left_to_right")
    result = write([7], [3, 0, 4], left_to_right)
    assert result.canvas_ids == (3, 0, MASK)
    assert result.step_map == (1, 2, 0)
    assert (result.num_response, result.finish) == (2, "stop")
    revealed = write([7], [3, 0, 4])
    assert revealed.canvas_ids == (3, 0, 4) and revealed.num_response == 2


def test_where_tokens_may_change_a_block_is_finished_first() -> None:
    """The token left of a stop may yet become the stop."""
    params = replace(GREEDY, strategy="left_to_right", edit_threshold=0.9)
    result = write([7], [3, 0, 4], params)
    assert result.canvas_ids == (3, 0, 4) and result.num_response == 2
    assert result.num_forwards == 4 and not result.revised  # the last found nothing to edit


def test_a_stop_past_max_tokens_does_not_count() -> None:
    result = write([], [3, 4, 0], replace(GREEDY, max_tokens=2))
    assert (result.num_response, result.finish) == (2, "length")
    assert write([], [3, 4, 0], replace(GREEDY, max_tokens=3)).finish == "stop"


def test_stop_and_mask_ids_in_a_prompt_are_text() -> None:
    result = write([0, MASK, 5, MASK, 0], [3, 3, 3, 3, 3, 3, 3, 0])
    assert result.response_ids == (3,) * 7 + (0,)


def test_logprobs_stand_where_tokens_were_revealed() -> None:
    result = write([7], [3, 0, 4], replace(GREEDY, strategy="left_to_right"))
    shares = [math.exp(s) / (math.exp(s) + 8) for s in (6.0, 7.0)]  # over nine drawable ids
    assert result.behavior_logprobs[2] == 0
    expected = [math.log(share) for share in shares]
    assert result.behavior_logprobs[:2] == pytest.approx(expected, abs=1e-6)


def test_denoising_steps_bound_the_forwards_of_every_block() -> None:
    strategies: tuple[Strategy, ...] = ("static", "margin", "entropy", "random", "left_to_right")
    schedules: tuple[Schedule, ...] = ("even", "block", "linear")
    for strategy in strategies:
        for schedule in schedules:
            for steps in (1, 2, 4):
                params = replace(
                    GREEDY, strategy=strategy, schedule=schedule, denoising_steps=steps
                )
                forwards = write([], [], params).num_forwards
                assert forwards == 2 * steps if schedule != "linear" else forwards <= 2 * steps


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), st.integers(1, 12))
def test_the_end_is_the_first_one_all_of_whose_left_is_decided(
    canvas: list[tuple[int, bool]], max_tokens: int
) -> None:
    tokens, decided = [t for t, _ in canvas], [d for _, d in canvas]
    params = SamplingParams(stop_token_ids=(0,), max_tokens=max_tokens)
    num_decided = next((i for i, d in enumerate(decided) if not d), len(decided))
    text = tokens[: min(num_decided, max_tokens)]
    expected = (max_tokens, "length") if len(text) == max_tokens else None
    if 0 in text:
        expected = (text.index(0) + 1, "stop")
    assert find_end(tokens, decided, params) == expected


def test_without_stop_ids_a_response_is_as_long_as_allowed() -> None:
    result = write([], [0, 0], replace(GREEDY, stop_token_ids=()))
    assert (result.num_response, result.finish) == (8, "length")


def test_guidance_is_away_from_the_model_that_does_not_see_the_prompt() -> None:
    """`u + (g + 1)(c - u)`: with the prompt the model prefers 3 by 2, without it 4 by 1.5."""

    def logits_fn(ids: Tensor) -> Tensor:
        token, sureness = (4, 1.5) if int(ids[0, 0]) == MASK else (3, 2.0)
        logits = torch.zeros(1, ids.shape[1], 10)
        logits[..., token] = sureness
        return logits

    params = replace(GREEDY, guidance=1.5)
    result = sample(prompt_of([7, 7]), params, logits_fn, ALPHABET)
    assert result.response_ids == (3,) * 8 and result.num_forwards == 16
    # 2.5 * 2 for token 3, 1.5 - 2.5 * 1.5 for token 4, seven others.
    expected = 5 - math.log(math.exp(5) + math.exp(-2.25) + 7)
    assert result.behavior_logprobs[:8] == pytest.approx([expected] * 8, abs=1e-6)
    assert sample(prompt_of([7, 7]), GREEDY, logits_fn, ALPHABET).num_forwards == 8


def fickle(seed: int) -> Callable[[Tensor], Tensor]:
    """Return a model that predicts another token at every pass, almost surely."""
    generator = torch.Generator().manual_seed(seed)

    def logits_fn(ids: Tensor) -> Tensor:
        return 6 * torch.randn(1, ids.shape[1], 10, generator=generator)

    return logits_fn


REVISING = [{"edit_threshold": 0.5, "max_edit_steps": 3}, {"remask_threshold": 0.5}]


@pytest.mark.parametrize("changes", [*REVISING, REVISING[0] | REVISING[1]])
@pytest.mark.parametrize("conventions", [ALPHABET, CANVAS, SHIFTED])
def test_revising_comes_to_an_end_and_is_recorded(
    changes: dict[str, Any], conventions: Conventions
) -> None:
    """Every pass leaves a mask less; then at most `max_edit_steps` edit."""
    num_revised = 0
    for seed in range(12):
        # Masks come back within a sub-block only, and never to a block's first position if shifted.
        sub_block = None if conventions.is_shifted else 3
        params = replace(GREEDY, stop_token_ids=(), sub_block_size=sub_block, **changes)
        result = sample(prompt_of([5] * (1 + seed % 5)), params, fickle(seed), conventions)
        num_blocks = -(-len(result.canvas_ids) // 4) + 1
        extra = params.max_edit_steps if params.edit_threshold is not None else 0
        assert result.num_forwards <= len(result.canvas_ids) + num_blocks * extra
        assert result.num_response == 8 and MASK not in result.response_ids
        assert all(result.step_map) and max(result.step_map) <= result.num_forwards
        num_revised += result.revised
        views = views_of_trajectory(result, 1.0, is_full=conventions.is_full)
        written = [one for one in result.revisions if one.kind == "write"]
        writes = sum(one.position < result.num_response for one in written)
        assert int(views.target.sum()) == result.num_response + writes
    assert num_revised > 6


def test_a_threshold_that_nothing_passes_revises_nothing() -> None:
    idle = {"edit_threshold": 1.0, "remask_threshold": 0.0}
    plain = write([5], [3, 4, 2, 1, 0])
    result = write([5], [3, 4, 2, 1, 0], replace(GREEDY, **idle))
    assert not result.revised and result.canvas_ids[:5] == plain.canvas_ids[:5]
    # The pass that found nothing to edit has a number too.
    assert (plain.step_map[:5], result.step_map[:5]) == ((3, 2, 1, 7, 6), (3, 2, 1, 8, 7))
    assert views_of_trajectory(result, 1.0).target.any()


def test_an_edit_writes_the_surer_token_and_its_step() -> None:
    """The first pass is sure of 3 everywhere; later ones are surer of 4."""
    passes: list[int] = []

    def logits_fn(ids: Tensor) -> Tensor:
        passes.append(1)
        logits = torch.zeros(1, ids.shape[1], 10)
        logits[..., 3 if len(passes) == 1 else 4] = 5.0
        return logits

    params = replace(GREEDY, max_tokens=4, strategy="left_to_right", edit_threshold=0.9)
    result = sample(prompt_of([]), params, logits_fn, ALPHABET)
    assert result.canvas_ids == (4, 4, 4, 4) and result.revised
    assert result.step_map == (2, 2, 3, 4)
    assert result.num_forwards == 5  # the fifth finds nothing to edit


MODELS = {
    "blocks": {},
    "shifted": {"is_shifted": True, "has_qk_norm": False},
    "canvas": {"attention": "full"},
    "shifted canvas": {"attention": "full", "is_shifted": True},
}
PARAMS = [
    SamplingParams(strategy="dynamic", threshold=0.3, max_tokens=9, seed=1, stop_token_ids=()),
    SamplingParams(strategy="entropy", temperature=0.7, top_p=0.9, max_tokens=11, seed=2),
    SamplingParams(strategy="factor", confidence="filtered", min_p=0.05, max_tokens=10),
    SamplingParams(strategy="random", denoising_steps=2, schedule="linear", max_tokens=7),
]


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("name", MODELS)
def test_the_record_holds_the_models_probabilities_at_that_step(
    name: str, params: SamplingParams
) -> None:
    """Hide what each step had not yet written, run the dense model, and read off the numbers."""
    model = toy_model(3, torch.float64, **MODELS[name])
    prompt_ids = [5, 6, 7]
    result = by_reference(model, (prompt_ids, params))
    steps = sorted({step for step in result.step_map if step})
    assert steps == list(range(1, result.num_steps + 1)) and not result.revised
    assert result.num_forwards == result.num_steps
    assert result.sampling.block_size is not None
    dense = dense_logits(model, result.sampling.block_size)
    filters = params.is_filtered or params.temperature not in (0, 1)
    for step in steps:
        canvas = [
            token if 0 < at < step else 1
            for token, at in zip(result.canvas_ids, result.step_map, strict=True)
        ]
        logits = dense(torch.tensor([prompt_ids + canvas]))[0].detach()
        logits = logits.roll(1, 0) if model.spec.is_shifted else logits
        raw = logits.masked_fill(~model.head.drawable, -torch.inf).log_softmax(-1)[3:]
        for position, at in enumerate(result.step_map):
            if at != step:
                continue
            expected = float(raw[position, result.canvas_ids[position]])
            assert result.raw_logprobs[position] == pytest.approx(expected, abs=1e-9)
            entropy = -sum(p * math.log(p) for p in raw[position].exp().tolist() if p)
            assert result.entropies[position] == pytest.approx(entropy, abs=1e-9)
            same = math.isclose(result.behavior_logprobs[position], expected, abs_tol=1e-9)
            assert same or filters
    for position, at in enumerate(result.step_map):
        written = (result.raw_logprobs[position], result.entropies[position])
        assert at or written == (0, 0)
