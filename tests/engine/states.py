"""Running sequences as the engine opens them."""

from typing import Any

import torch

from tests.engine.writers import Ask, prompt_of
from tests.toy import SPEC
from unmask.diffusion.conventions import Conventions
from unmask.engine.pages import num_pages
from unmask.engine.request import Request, prefix_key_of, resolve
from unmask.engine.sequence_state import SequenceState, open_sequences
from unmask.models.spec import ModelSpec
from unmask.sampling_params import SamplingParams

MASK = 1
ALPHABET = Conventions(MASK, torch.arange(24) != MASK)
SHIFTED = Conventions(MASK, torch.arange(24) != MASK, is_shifted=True)
CANVAS = Conventions(MASK, torch.arange(24) != MASK, is_full=True)


def request_of(number: int, one: Ask, spec: ModelSpec = SPEC) -> Request:
    """Return a request as the engine makes it."""
    prompt = prompt_of(one[0])
    sampling = resolve(prompt, one[1], spec)
    assert sampling.block_size is not None
    prefix = prefix_key_of(prompt, sampling.block_size, spec)
    return Request(number, prompt, sampling, spec.attention == "full", prefix)


def opened(*asks: Ask, spec: ModelSpec = SPEC) -> SequenceState:
    """Return the state of new requests, each on pages of its own."""
    requests = [request_of(number, one, spec) for number, one in enumerate(asks)]
    longest = max(request.max_length for request in requests)
    stops = max(len(request.sampling.stop_token_ids or ()) for request in requests)
    widths = {"tokens": longest + 1, "stop_ids": stops, "table": num_pages(longest)}
    conventions = Conventions(
        MASK, ALPHABET.drawable, spec.attention == "full", is_shifted=spec.is_shifted
    )
    # A copy, as the engine makes it: columns that start alike are one tensor.
    state = open_sequences(requests, widths, conventions).grown(len(requests), {})
    state.table.copy_(1 + torch.arange(state.table.numel()).view(state.table.shape))
    return state


def ask(num_prompt: int, block: int = 4, max_tokens: int = 8, **changes: Any) -> Ask:
    sampling = SamplingParams(block_size=block, max_tokens=max_tokens, temperature=0, **changes)
    return [5] * num_prompt, sampling
