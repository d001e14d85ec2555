"""A request as the host knows it: the question, how it is sampled, and where its keys and values are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unmask.models.spec import ModelSpec
from unmask.types import Prompt, SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """One response to be written.

    Attributes:
        number: the engine's name for it, in the order of submission.
        prompt: with `token_ids` filled in.
        sampling: with `block_size` and `stop_token_ids` filled in.
        page: page of the cache it writes to; -1 while it waits.
    """

    number: int
    prompt: Prompt
    sampling: SamplingParams
    page: int = -1

    @property
    def block(self) -> int:
        """Slots per diffusion block."""
        assert self.sampling.block_size is not None
        return self.sampling.block_size

    @property
    def max_length(self) -> int:
        """Positions it can come to hold: prompt and response, in whole blocks."""
        length = len(self.prompt.token_ids) + self.sampling.max_tokens
        return -(-length // self.block) * self.block


def resolve(prompt: Prompt, sampling: SamplingParams, spec: ModelSpec) -> SamplingParams:
    """Fill in what the request left to the model.

    Raises:
        ValueError: if prompt and response cannot fit the model, or the prompt's ids are not in its
            vocabulary.
    """
    length = len(prompt.token_ids) + sampling.max_tokens
    if length > spec.max_length:
        raise ValueError(
            f"a prompt of {len(prompt.token_ids)} tokens and max_tokens = {sampling.max_tokens} "
            f"take {length} positions, but the model has {spec.max_length}; lower max_tokens"
        )
    _check_ids(prompt.token_ids, spec.vocab_size)
    stops = spec.eos_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
    return replace(
        sampling,
        block_size=sampling.block_size or spec.block_size,
        stop_token_ids=stops,
    )


def _check_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    for token in token_ids:
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token} of the prompt is outside 0..{vocab_size - 1}")
