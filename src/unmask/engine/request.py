"""A request: the prompt, its sampling parameters, and how many positions it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from unmask.diffusion.constrained import Constraint
from unmask.engine.events import Streams
from unmask.engine.pages import PagePool, num_pages
from unmask.engine.prefix_cache import NO_PREFIX, PrefixKey
from unmask.models.attention import KEY_CHUNK
from unmask.models.spec import ModelSpec
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

# Each response feeds a shorter prompt itself: waiting for another request's pages would take longer.
MIN_SHARED = 32


@dataclass(frozen=True, slots=True)
class Request:
    """One response to write.

    Attributes:
        id: in the order of submission.
        prompt: with `token_ids` filled in.
        sampling: with `block_size` and `stop_token_ids` filled in.
        is_full: whether attention is full.
        prefix: the beginning of the prompt that other requests may share; `NO_PREFIX` if it is too short.
        streams: the events that ticks return of it while it runs.
        constraint: of structured output.
        twin: with guidance, a second sequence of the same id: it has the unconditional prompt, takes the tokens
            of this one and returns nothing.
        is_twin: whether it is one.
        table_ids: the prompt's token ids, negative ones as rows of the engine's table of pictures; `None` for
            a prompt without pictures.
    """

    id: int
    prompt: Prompt
    sampling: SamplingParams
    is_full: bool
    prefix: PrefixKey = NO_PREFIX
    streams: Streams | None = None
    constraint: Constraint | None = field(default=None, compare=False)
    table_ids: tuple[int, ...] | None = field(default=None, compare=False)
    twin: "Request | None" = field(default=None, compare=False)
    is_twin: bool = False

    @property
    def members(self) -> tuple["Request", ...]:
        """The sequences that it takes."""
        return (self,) if self.twin is None else (self, self.twin)

    @property
    def is_followed(self) -> bool:
        """Whether the host reads the writes of each of its denoising steps."""
        return self.streams == "canvas" or (self.sampling.revises and not self.is_twin)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """What the engine feeds of the prompt."""
        return self.prompt.token_ids if self.table_ids is None else self.table_ids

    @property
    def block(self) -> int:
        """Positions per diffusion block."""
        assert self.sampling.block_size is not None
        return self.sampling.block_size

    @property
    def first_block(self) -> int:
        """Where its first block starts: on the grid from position 0, or at the response under full attention."""
        length = len(self.prompt.token_ids)
        return length if self.is_full else length // self.block * self.block

    @property
    def max_length(self) -> int:
        """Most positions it takes: prompt and response, in whole blocks unless attention is full."""
        length = len(self.prompt.token_ids) + self.sampling.max_tokens
        return length if self.is_full else -(-length // self.block) * self.block

    @property
    def first_length(self) -> int:
        """Positions it needs pages for at its start: prompt and two blocks, or the whole canvas."""
        if self.is_full:
            return self.max_length
        return min(self.first_block + 2 * self.block, self.max_length)


def with_twin(request: Request, mask_id: int) -> Request:
    """Return a request, with its twin where it has guidance."""
    if not request.sampling.guidance:
        return request
    prompt = request.prompt
    ids = prompt.unconditional_ids or (mask_id,) * len(prompt.token_ids)
    unconditional = replace(prompt, token_ids=ids, images=())
    sampling = replace(request.sampling, stop=())  # the other one finds where both end
    twin = Request(request.id, unconditional, sampling, request.is_full, is_twin=True)
    return replace(request, twin=twin)


def check_room(request: Request, pages: PagePool, max_sequences: int) -> None:
    """Refuse a request that would not fit an empty engine.

    Raises:
        ValueError: naming the option of the engine.
    """
    sampling, most = request.sampling, pages.max_pages
    needed = sum(num_pages(one.max_length, pages.page_size) for one in request.members)
    if len(request.members) > max_sequences:
        raise ValueError(
            f"guidance = {sampling.guidance} takes two sequences: engine.max_sequences = {max_sequences} must "
            "be 2 or more"
        )
    if most is not None and needed > most:
        raise ValueError(
            f"a prompt of {len(request.prompt.token_ids)} tokens and max_tokens = {sampling.max_tokens} take "
            f"{needed} pages of the cache, which has {most}; lower max_tokens or raise engine.cache_tokens"
        )


def prefix_key_of(
    prompt: Prompt, block: int, spec: ModelSpec, page_size: int = KEY_CHUNK
) -> PrefixKey:
    """Return the key of a prompt's whole blocks; `NO_PREFIX` where there are too few to share.

    A shifted model reads a block's first position off the row before it, which must then be fed.
    """
    length = (len(prompt.token_ids) - int(spec.is_shifted)) // block * block
    if spec.is_full or length < MIN_SHARED:
        return NO_PREFIX
    return PrefixKey.of(prompt, length, block, page_size)


def resolve(prompt: Prompt, sampling: SamplingParams, spec: ModelSpec) -> SamplingParams:
    """Return the parameters with the model's defaults filled in.

    Raises:
        ValueError: if prompt and response, in whole blocks, cannot fit the model; the prompt's ids
            are not in its vocabulary; or the seed is not one of 64 bits.
    """
    if sampling.writes == "image":
        sampling = params_of_image(sampling, spec)
    length = len(prompt.token_ids) + sampling.max_tokens
    if sampling.guidance:
        length = max(length, len(prompt.unconditional_ids) + sampling.max_tokens)
    if length > spec.max_length:
        raise ValueError(
            f"a prompt of {len(prompt.token_ids)} tokens and max_tokens = {sampling.max_tokens} "
            f"take {length} positions, but the model has {spec.max_length}; lower max_tokens"
        )
    num_vectors = sum(image.count for image in prompt.images)
    _check_ids(prompt.token_ids, spec.vocab_size, "the prompt", -num_vectors)
    _check_ids(prompt.unconditional_ids, spec.vocab_size, "the unconditional prompt")
    _check_ids([token for _, token in sampling.pinned], spec.vocab_size, "pinned")
    if any(token == spec.mask_id for _, token in sampling.pinned):
        raise ValueError(
            f"pinned holds the mask token {spec.mask_id}: leave out the positions that are to be written"
        )
    if spec.is_shifted and not prompt.token_ids:
        raise ValueError(
            f"the prompt is empty: {spec.family} predicts a token from the one before it, so it "
            "needs at least one"
        )
    _check_seed(sampling.seed)
    if sampling.guidance and not spec.is_full:
        raise ValueError(
            f"guidance = {sampling.guidance}: the engine does classifier-free guidance under full attention, "
            f"and that of {spec.family} is block-causal; use unmask.diffusion.reference_sampler.sample"
        )
    stops = spec.eos_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
    block = sampling.block_size or spec.block_size or sampling.max_tokens
    if spec.is_full:
        block = min(block, sampling.max_tokens)
    elif (rounded := -(-length // block) * block) > spec.max_length:  # blocks are written whole
        raise ValueError(
            f"block_size = {block}: prompt and max_tokens, {length} positions, take {rounded} in "
            f"whole blocks, but the model has {spec.max_length}; lower max_tokens or block_size"
        )
    return replace(
        sampling,
        block_size=block,
        sub_block_size=sampling.sub_block_size or spec.sub_block_size,
        stop_token_ids=stops,
    )


def params_of_image(sampling: SamplingParams, spec: ModelSpec) -> SamplingParams:
    """Return parameters under which a response is one image: all of its codes, and the token of its end, pinned.

    Raises:
        ValueError: if the model draws no images.
    """
    ids = spec.image_ids
    if ids is None:
        raise ValueError(
            f'writes = "image": {spec.family} draws no images here: its config.json has no image_token_ids'
        )
    num_codes = ids.side**2
    return replace(
        sampling,
        max_tokens=num_codes + 1,
        block_size=num_codes + 1,
        pinned=((num_codes, ids.end_of_image),),
        stop=(),
        stop_token_ids=(),
    )


def _check_seed(seed: int) -> None:
    if seed is None:  # pyright: ignore[reportUnnecessaryComparison] - `LLM` alone reads None
        raise ValueError("seed = None: LLM draws a seed in its place; the engine needs one")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(
            f"seed = {seed}: a request's seed has 64 bits, from -2**63 to 2**63 - 1; "
            "derive_seed makes one from any int"
        )


def _check_ids(token_ids: Sequence[int], vocab_size: int, key: str, lowest: int = 0) -> None:
    for token in token_ids:
        if type(token) is not int:  # 5.7 would become 5
            raise ValueError(
                f"token id {token!r} of {key} is a {type(token).__name__}: ids are ints; "
                "those of an array come from its tolist()"
            )
        if not lowest <= token < vocab_size:
            raise ValueError(f"token id {token} of {key} is outside {lowest}..{vocab_size - 1}")
