"""What a request leaves open comes from the model; what does not fit it is refused."""

from dataclasses import replace

import pytest

from tests.engine.writers import prompt_of
from tests.toy import SPEC
from unmask.engine.request import Request, resolve
from unmask.types import SamplingParams

ASKED = SamplingParams(max_tokens=8)


def test_the_model_fills_in_block_size_and_stops() -> None:
    filled = resolve(prompt_of([5]), ASKED, SPEC)
    assert (filled.block_size, filled.stop_token_ids) == (SPEC.block_size, SPEC.eos_ids)
    assert replace(filled, block_size=None, stop_token_ids=None) == ASKED


def test_what_the_caller_says_stays() -> None:
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


@pytest.mark.parametrize(("num_prompt", "length"), [(0, 12), (3, 12), (4, 16), (5, 16)])
def test_a_request_holds_whole_blocks(num_prompt: int, length: int) -> None:
    sampling = resolve(prompt_of([5] * num_prompt), replace(ASKED, max_tokens=9), SPEC)
    request = Request(0, prompt_of([5] * num_prompt), sampling)
    assert request.block == 4 and request.max_length == length
