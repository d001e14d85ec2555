"""How responses are unmasked: the parameters of a request."""

from collections import Counter
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from unmask.bounds import LARGEST, Bound, check_fields
from unmask.vllm_names import sampling_fields

Strategy = Literal[
    "static",
    "dynamic",
    "factor",
    "entropy_bounded",
    "margin",
    "entropy",
    "random",
    "left_to_right",
    "gumbel",
]
Confidence = Literal["raw", "filtered"]
Schedule = Literal["even", "block", "linear", "cosine"]
Medium = Literal["text", "image"]
EntropySum = Literal["exclusive", "inclusive"]

# Counts are added and multiplied in int64 tensors.
MOST_COUNT = 2**31 - 1
FRACTION = Bound(ge=0, le=1)
AMOUNT = Bound(ge=0, le=LARGEST)
COUNT = Bound(ge=1, le=MOST_COUNT)
# A seed is a number everywhere behind `LLM`, which draws one in the place of `None`.
if TYPE_CHECKING:
    Seed = int
else:
    Seed = int | None


@dataclass(frozen=True)
class SamplingFields:
    """How responses are unmasked: the fields that `SamplingParams` and `[sampling]` share."""

    strategy: Strategy = "dynamic"
    """Which positions a denoising step reveals. A fixed quota: of the highest confidence (`static`), of
    the largest margin between the two most likely tokens (`margin`), of the lowest entropy (`entropy`),
    in `random` order or `left_to_right`, or of the highest log-confidence plus `ranking_noise`
    (`gumbel`). Or at least that quota, and all positions above `threshold`
    (`dynamic`), or as many as `factor` (`factor`) or `entropy_bound` (`entropy_bounded`) allow."""
    block_size: Annotated[int | None, COUNT] = None
    """Positions per diffusion block; the model's own if not given. Under full attention, blocks only
    determine the order of writing and are counted from the start of the response."""
    sub_block_size: Annotated[int | None, COUNT] = None
    """Positions of a block that are open at a time, from the left; the model's own if not given."""
    denoising_steps: Annotated[int | None, COUNT] = None
    """Denoising steps per block, which determine the quota; one per position if not given. Sub-blocks,
    re-masked positions and the first position of a block of a shifted model, which is written alone,
    take additional steps."""
    schedule: Schedule = "even"
    """How the quota is spread over the steps: `even` divides the hidden positions of a block, `block` all
    its positions, of which the first block's may be prompt (SDAR), `linear` follows Dream's time
    grid, `cosine` leaves `N cos(pi/2 t/T)` of a block's N masks hidden after step t of T (MaskGIT)."""
    threshold: Annotated[
        float, Bound(gt=0, le=1, hint="denoising_steps = 1 reveals a block at once")
    ] = 0.9
    """Confidence that a position must exceed to be revealed by `dynamic`."""
    factor: Annotated[float, AMOUNT] = 1.0
    """`f` of `factor`: the n most confident positions are revealed while the last of them has a
    confidence above `1 - f / (n + 1)` (Fast-dLLM, Wu et al. 2025)."""
    entropy_bound: Annotated[float, AMOUNT] = 0.1
    """Nats: `entropy_bounded` reveals positions of the lowest entropy while the sum of entropies that
    `entropy_sum` selects stays within this bound."""
    ranking_noise: Annotated[float, AMOUNT] = 1.0
    """Scale of the Gumbel noise of `gumbel`; in step t of T it is multiplied by `1 - s/T` for every s up to t
    (MMaDA's text-to-image)."""
    entropy_sum: EntropySum = "exclusive"
    """The sum of `entropy_bounded`: `exclusive` sums over the positions before a position, and the sum
    may reach the bound (Ben-Hamu et al. 2025); `inclusive` adds the position itself, and the sum must
    stay below the bound (JetEngine)."""
    temperature: Annotated[
        float, Bound(ge=1e-6, le=10**6, zero="greedy", hint="other values overflow the logits")
    ] = 1.0
    """Softmax temperature of the drawn tokens; 0 takes the most likely token and records
    log-probabilities at temperature 1."""
    top_k: Annotated[int, Bound(ge=-1, le=MOST_COUNT)] = 0
    """Draw from the k most likely tokens; 0 and -1 are no limit."""
    top_p: Annotated[float, Bound(gt=0, le=1, hint="temperature = 0 is greedy")] = 1.0
    """Draw from the smallest set of tokens with this much probability."""
    min_p: Annotated[float, FRACTION] = 0.0
    """Draw from tokens at least this fraction as likely as the most likely token."""
    confidence: Confidence = "raw"
    """Rank positions by the model's own distribution (temperature 1, no filter; `raw`), or by the
    `filtered` proposal, as the published samplers do."""
    guidance: Annotated[float, AMOUNT] = 0.0
    """Classifier-free guidance `g`: logits `u + (g + 1)(c - u)`, where `u` has the prompt masked, or the empty
    text of a drawing in its place; 0 is off. For models with full attention, at two forward passes a step."""
    writes: Medium = "text"
    """The tokens of the response: `text`, or the codes of an `image` in models that hold both."""
    edit_threshold: Annotated[float | None, FRACTION] = None
    """Overwrite written tokens of the current block where another token is more probable than this
    (LLaDA2.1); never if not given."""
    max_edit_steps: Annotated[int, Bound(ge=0, le=MOST_COUNT)] = 16
    """Passes over a block without hidden positions that may still edit it."""
    remask_threshold: Annotated[float | None, FRACTION] = None
    """Mask written tokens of the current block again whose probability has fallen below this (dInfer);
    never if not given."""
    stop_token_ids: tuple[Annotated[int, Bound(ge=0, le=MOST_COUNT)], ...] | None = None
    """Token ids that end a response; the model's end-of-text ids if not given."""
    stop: tuple[
        Annotated[str, Bound(min_length=1, hint="an empty string ends every response")], ...
    ] = ()
    """Strings that end a response. They are searched when a block is finished, and are not part of the
    response's text. The string of a special token ends a response whether the model writes that token
    or spells it with others."""
    max_tokens: Annotated[int, Bound(ge=1, le=2**20)] = 256
    """Maximum number of response tokens; under full attention, the positions of the canvas."""
    regex: str | None = None
    """Regular expression (syntax of Rust's `regex`) that the whole response matches, by construction.
    Needs the extra `serve` and a tokenizer."""
    json_schema: str | None = None
    """JSON schema, as JSON text, that the response is valid under, by construction. Keywords that cannot
    be guaranteed are refused. Needs the extra `serve` and a tokenizer."""

    @property
    def is_filtered(self) -> bool:
        """Whether some tokens the model could write are never drawn."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def revises(self) -> bool:
        """Whether written tokens may be overwritten or masked again."""
        return self.edit_threshold is not None or self.remask_threshold is not None

    @property
    def ranks_draws(self) -> bool:
        """Whether the confidence of the drawn tokens decides which positions are revealed."""
        return self.strategy in ("static", "dynamic", "factor", "gumbel")

    @property
    def is_structured(self) -> bool:
        """Whether the response must match a pattern."""
        return self.regex is not None or self.json_schema is not None

    def check_structure(self) -> None:
        """Refuse fields that contradict structured output.

        Raises:
            ValueError: naming the fields.
        """
        if not self.is_structured:
            return
        key = "json_schema" if self.regex is None else "regex"
        if self.regex is not None and self.json_schema is not None:
            raise ValueError("regex and json_schema: a response matches one of them; leave one out")
        if self.stop:
            raise ValueError(
                f"{key} with stop = {self.stop!r}: a string could cut the response short of a match; "
                "leave stop out"
            )
        if self.writes == "image":
            raise ValueError(
                f'{key} with writes = "image": image codes have no text; leave one out'
            )
        if self.revises:
            raise ValueError(
                f"{key} with edit_threshold or remask_threshold: tokens that are overwritten one by one "
                "could leave no match; leave both out"
            )


Params = TypeVar("Params", bound=type[Any])


def _with_names_of_vllm(cls: Params) -> Params:
    """Let a class be made with the arguments of vLLM's `SamplingParams` too (`vllm_names.py`)."""
    init = cls.__init__

    @wraps(init)
    def read(self: Any, *args: Any, **given: Any) -> None:
        init(self, *args, **sampling_fields(given, cls.__dataclass_fields__))

    cls.__init__ = read
    return cls


@_with_names_of_vllm
@dataclass(frozen=True, slots=True)
class SamplingParams(SamplingFields):
    """How one request is unmasked; the fields of `SamplingFields` stand first.

    Takes the arguments of vLLM's `SamplingParams` as well (docs/generate.md lists them).

    Raises:
        ValueError: a value is not accepted. Accepted values fit the tensors of a batch: a value that
            failed there would take other requests with it.
        TypeError: a field does not exist.
    """

    seed: Seed = 0
    """First half of the key of every random draw: the same seed gives the same response, in any
    batch. With `None`, `LLM` draws one for each prompt of each call."""
    n: Annotated[int, COUNT] = 1
    """Responses per prompt; response `i` is drawn with seed `derive_seed(seed, i)`. The engine itself
    draws one response, with the seed as given."""
    pinned: tuple[tuple[int, int], ...] = ()
    """Positions of the response and the token ids that stand there, written before the first denoising
    step and never drawn, changed or scored. A stop token ends a response only from the last of them
    on. A block-causal model sees them from their own block on, a full-attention model at once."""

    def __post_init__(self) -> None:
        """Check the fields; `stop` may also be one string, and `pinned` is sorted by position."""
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if self.pinned != ():
            object.__setattr__(self, "pinned", _pinned_of(self.pinned))
        check_fields(self)
        self.check_structure()
        if not self.pinned:
            return
        last, _ = self.pinned[-1]
        if last >= self.max_tokens:
            raise ValueError(
                f"pinned holds position {last}, but max_tokens = {self.max_tokens} ends the response "
                f"before it: raise max_tokens to {last + 1} or more"
            )
        if self.stop:
            raise ValueError(
                f"stop = {self.stop!r} with pinned tokens: a string could end the response before "
                "them; leave stop out, or end it with stop_token_ids"
            )

    @property
    def first_end(self) -> int:
        """First position of the response at which a stop token ends it: the last pinned one."""
        return self.pinned[-1][0] if self.pinned else 0


def _pinned_of(given: Any) -> tuple[tuple[int, int], ...]:
    """Return pairs of position and token id, sorted by position.

    Raises:
        ValueError: if they are not such pairs, or a position comes twice.
    """
    pairs: list[Any] = list(given) if isinstance(given, list | tuple) else [given]  # pyright: ignore[reportUnknownArgumentType]
    for pair in pairs:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2  # pyright: ignore[reportUnknownArgumentType]
        if not is_pair or any(type(n) is not int or not 0 <= n <= MOST_COUNT for n in pair):  # pyright: ignore[reportUnknownVariableType]
            raise ValueError(
                f"pinned holds {pair!r}: must be pairs of a position of the response and a token id, "
                "both whole numbers from 0, ((12, 345), ...)"
            )
    for position, count in Counter(position for position, _ in pairs).items():
        if count > 1:
            raise ValueError(f"pinned holds position {position} twice: one token stands there")
    return tuple(sorted((position, token) for position, token in pairs))
