"""The reference sampler writes what the published programs wrote, and ends where it should."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.golden_traces import SDAR, Trace, golden_traces, path_of
from tests.engine.writers import by_reference, prompt_of
from unmask.diffusion.sample import Alphabet, find_end, sample
from unmask.models.checkpoint import load_model
from unmask.models.transformer import Model
from unmask.types import SamplingParams, Trajectory

MASK = 9
ALPHABET = Alphabet(MASK, torch.arange(10) != MASK)
GREEDY = SamplingParams(
    temperature=0, block_size=4, stop_token_ids=(0,), max_tokens=8, strategy="static"
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(SDAR)


def test_the_golden_set_is_whole() -> None:
    """19 recorded traces, two of them marked: the others are compared."""
    assert len(golden_traces()) == 17


@pytest.mark.parametrize("trace", golden_traces())
def test_golden_traces(trace: Trace, model: Model) -> None:
    assert [path_of(by_reference(model, ask)) for ask in trace.asks] == trace.expected


def write(
    prompt_ids: list[int], response: list[int], params: SamplingParams = GREEDY
) -> Trajectory:
    """Run the sampler on a model that is sure of `response` at every position after the prompt."""
    text = [*prompt_ids, *response, *[1] * 64]

    def logits_fn(ids: Tensor) -> Tensor:
        wanted = torch.tensor([text[: ids.shape[1]]])
        # Surer from left to right within four positions, so that `static` starts at the right.
        sureness = 5.0 + torch.arange(ids.shape[1]) % 4
        return torch.zeros(1, ids.shape[1], 10).scatter(
            2, wanted[..., None], sureness[None, :, None]
        )

    return sample(prompt_of(prompt_ids), params, logits_fn, ALPHABET)


def test_a_canvas_ends_with_a_block() -> None:
    for num_prompt in range(9):
        for max_tokens in range(1, 9):
            result = write([5] * num_prompt, [], replace(GREEDY, max_tokens=max_tokens))
            assert (num_prompt + len(result.canvas_ids)) % 4 == 0
            assert result.finish == "length" and result.num_response == max_tokens
            assert 0 not in result.step_map[:max_tokens]


def test_a_stop_waits_for_its_left_neighbours() -> None:
    """The stop token is revealed first and the response goes on until the slots left of it are."""
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
    for strategy in ("static", "random", "left_to_right"):
        for steps in (1, 2, 3, 4):
            params = replace(GREEDY, strategy=strategy, denoising_steps=steps, max_tokens=8)
            assert write([], [], params).num_forwards == 2 * steps


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
