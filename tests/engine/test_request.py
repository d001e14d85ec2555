"""What a request leaves open comes from the model; what does not fit it is refused."""

from dataclasses import replace
from typing import Any

import pytest

from tests.engine.states import request_of
from tests.engine.writers import by_engine, prompt_of, results_of
from tests.toy import SPEC, toy_model
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.prefix_cache import NO_PREFIX
from unmask.engine.request import MIN_SHARED, prefix_key_of, resolve
from unmask.sampling_params import SamplingParams

ASKED = SamplingParams(max_tokens=8)


def test_the_model_fills_in_block_size_and_stops() -> None:
    filled = resolve(prompt_of([5]), ASKED, SPEC)
    assert (filled.block_size, filled.stop_token_ids) == (SPEC.block_size, SPEC.eos_ids)
    assert replace(filled, block_size=None, stop_token_ids=None) == ASKED


def test_given_values_are_kept() -> None:
    asked = replace(ASKED, block_size=2, stop_token_ids=())
    assert resolve(prompt_of([5]), asked, SPEC) == asked


def test_a_prompt_and_response_longer_than_the_model_are_refused() -> None:
    longest = SPEC.max_length - ASKED.max_tokens
    resolve(prompt_of([5] * longest), ASKED, SPEC)
    with pytest.raises(ValueError, match=r"prompt of 121 tokens and max_tokens = 8 .* lower"):
        resolve(prompt_of([5] * (longest + 1)), ASKED, SPEC)


@pytest.mark.parametrize("token", [-1, SPEC.vocab_size])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match=f"token id {token} of the prompt is outside 0..23"):
        resolve(prompt_of([5, token]), ASKED, SPEC)


@pytest.mark.parametrize("token", [5.7, 5.0, True, "5", None])
def test_ids_are_ints(token: Any) -> None:
    """A tensor would hold 5 for 5.7."""
    with pytest.raises(ValueError, match=r"token id .* of the prompt is a \w+: ids are ints"):
        resolve(prompt_of([5, token]), ASKED, SPEC)


@pytest.mark.parametrize(
    ("max_length", "num_prompt", "block", "rounded"),
    [(64, 10, 500, 500), (100, 90, 64, 128), (128, 90, 10**9, 10**9)],
)
def test_a_block_that_reaches_past_the_model_is_refused(
    max_length: int, num_prompt: int, block: int, rounded: int
) -> None:
    spec, asked = replace(SPEC, max_length=max_length), replace(ASKED, block_size=block)
    message = f"block_size = {block}: .*{num_prompt + 8} positions, take {rounded} in whole blocks"
    with pytest.raises(ValueError, match=f"{message}, but the model has {max_length}; lower"):
        resolve(prompt_of([5] * num_prompt), asked, spec)


@pytest.mark.parametrize("max_length", [63, 64, 65])
def test_no_position_reaches_past_the_model(max_length: int) -> None:
    """What is let in has room for its last block, and what has room is let in."""
    spec = replace(SPEC, max_length=max_length)
    for num_prompt in range(40, 60):
        for block in (1, 3, 4, 5, 16, 21, 64):
            ask = ([5] * num_prompt, replace(ASKED, block_size=block))
            fits = -(-(num_prompt + 8) // block) * block <= max_length
            if fits:
                assert request_of(0, ask, spec).max_length <= max_length
                continue
            with pytest.raises(ValueError, match="the model has"):
                request_of(0, ask, spec)


def test_under_full_attention_no_block_is_too_large() -> None:
    spec = replace(SPEC, attention="full")
    assert resolve(prompt_of([5]), replace(ASKED, block_size=10**9), spec).block_size == 8


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, -(2**63) - 1])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed = {seed}: a request's seed has 64 bits"):
        resolve(prompt_of([5]), replace(ASKED, seed=seed), SPEC)
    for least_or_most in (-(2**63), 2**63 - 1):
        asked = replace(ASKED, seed=least_or_most)
        assert resolve(prompt_of([5]), asked, SPEC).seed == least_or_most


@pytest.mark.parametrize(
    ("token_ids", "changes"),
    [([5], {"seed": 2**64 - 1}), ([5], {"block_size": 10**9}), ([5.7], {})],
)
def test_a_refused_request_leaves_the_others_as_they_are(
    token_ids: Any, changes: dict[str, Any]
) -> None:
    """Let in, it would make every later tick fail."""
    model = toy_model()
    engine = Engine(model)
    number = engine.submit(prompt_of([6]), ASKED)
    with pytest.raises(ValueError, match=r"\d"):
        engine.submit(prompt_of(token_ids), replace(ASKED, **changes))
    assert results_of(engine.collect())[number] == by_engine(model, [([6], ASKED)])[0]


@pytest.mark.parametrize("cache", ["exact", "dual"])
def test_the_greatest_values_let_in_are_written(cache: Any) -> None:
    most = {"top_k": 2**31 - 1, "denoising_steps": 2**31 - 1, "sub_block_size": 2**31 - 1}
    asked = replace(ASKED, **most, stop_token_ids=(2**31 - 1,), seed=2**63 - 1)
    plain = replace(ASKED, stop_token_ids=(), seed=2**63 - 1)
    model, params = toy_model(), EngineParams(cache=cache)
    (one,), (other,) = (by_engine(model, [([5], s)], params) for s in (asked, plain))
    assert one.canvas_ids == other.canvas_ids
    linear = replace(asked, schedule="linear")
    assert by_engine(model, [([5], linear)], params)[0].num_response == 8


@pytest.mark.parametrize(
    ("num_prompt", "first_block", "first_length", "length"),
    [(0, 0, 8, 12), (3, 0, 8, 12), (4, 4, 12, 16), (5, 4, 12, 16)],
)
def test_a_request_holds_whole_blocks(
    num_prompt: int, first_block: int, first_length: int, length: int
) -> None:
    """It starts with room for two: the one it writes, and the one it may move on to in that pass."""
    request = request_of(0, ([5] * num_prompt, replace(ASKED, max_tokens=9)))
    assert request.block == 4 and request.first_block == first_block
    assert (request.first_length, request.max_length) == (first_length, length)


@pytest.mark.parametrize(("num_prompt", "length"), [(0, 9), (3, 12), (5, 14)])
def test_under_full_attention_a_request_holds_what_it_asks_for(
    num_prompt: int, length: int
) -> None:
    """Blocks are counted from the response's start, and none is longer than the canvas."""
    spec = replace(SPEC, attention="full")
    request = request_of(0, ([5] * num_prompt, replace(ASKED, max_tokens=9, block_size=32)), spec)
    assert (request.block, request.first_block, request.max_length) == (9, num_prompt, length)
    assert request.first_length == length


def test_the_model_fills_in_its_sub_blocks() -> None:
    spec = replace(SPEC, sub_block_size=2)
    assert resolve(prompt_of([5]), ASKED, spec).sub_block_size == 2
    assert resolve(prompt_of([5]), replace(ASKED, sub_block_size=3), spec).sub_block_size == 3


def test_a_shifted_model_needs_a_token_to_begin_from() -> None:
    shifted = replace(SPEC, is_shifted=True)
    resolve(prompt_of([5]), ASKED, shifted)
    with pytest.raises(ValueError, match="the prompt is empty: sdar predicts a token from the one"):
        resolve(prompt_of([]), ASKED, shifted)


@pytest.mark.parametrize(
    ("num_prompt", "block", "plain", "shifted"),
    [(31, 4, 0, 0), (32, 4, 32, 0), (33, 4, 32, 32), (70, 24, 48, 48), (72, 24, 72, 48)],
)
def test_the_whole_blocks_of_a_long_prompt_are_shared(
    num_prompt: int, block: int, plain: int, shifted: int
) -> None:
    """A shifted model reads a block's first position off the row before, which each must feed itself."""
    assert MIN_SHARED == 32
    for spec, length in ((SPEC, plain), (replace(SPEC, is_shifted=True), shifted)):
        prefix = prefix_key_of(prompt_of([5] * num_prompt), block, spec)
        assert prefix.length == length


def test_under_full_attention_no_prompt_is_shared() -> None:
    """Its keys depend on the canvas."""
    assert prefix_key_of(prompt_of([5] * 100), 4, replace(SPEC, attention="full")) == NO_PREFIX


def test_a_prefix_key_is_its_tokens_and_block_size() -> None:
    same, longer = (prompt_of([5] * 64), 4), (prompt_of([5] * 66), 4)
    assert prefix_key_of(*same, SPEC) == prefix_key_of(*longer, SPEC)
    others = [([5] * 63 + [6], 4), ([5] * 64, 8), ([5] * 68, 4), ([55] * 64, 4)]
    keys = [prefix_key_of(prompt_of(ids), block, SPEC) for ids, block in others]
    assert prefix_key_of(*same, SPEC) not in keys


def test_pinned_tokens_are_of_the_vocabulary_and_not_masks() -> None:
    with pytest.raises(ValueError, match=r"token id 24 of pinned is outside 0..23"):
        resolve(prompt_of([5]), SamplingParams(max_tokens=4, pinned=((1, 24),)), SPEC)
    with pytest.raises(ValueError, match="pinned holds the mask token 1: leave out"):
        resolve(prompt_of([5]), SamplingParams(max_tokens=4, pinned=((1, 1),)), SPEC)
