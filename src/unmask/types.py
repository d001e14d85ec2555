"""The frozen records that are passed from one stage to the next.

Tasks make `Prompt`s; the engine answers each with `Trajectory`s; rewards turn the trajectories of
one prompt into a `Group`; `diffusion.views` turns every trajectory into noisy views, on which the
learner trains. Only the standard library is imported here, so that a stage can use these records
without importing the stage that made them. Records that hold tensors are in `diffusion/views.py`.

Legend of dimensions, the same everywhere:

    B rows                     K tokens of a diffusion block     D model width
    L tokens of a row          S denoising steps                 H query heads, Hk key/value heads
    P prompt tokens            N noisy views of a trajectory     E width of a head
    R response tokens          G trajectories of one prompt      T packed tokens of a forward pass
    C canvas tokens            V vocabulary                      M KV pages, W tokens of a page
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal, Self

from unmask.bounds import LARGEST, MOST_COUNT, Bound, check_fields, pinned_of
from unmask.images import MARKER, Image, check_markers

# With a fixed quota, and without the confidence of the drawn token alone.
_Others = Literal["margin", "entropy", "random", "left_to_right", "gumbel"]
Strategy = Literal["static", "dynamic", "factor", "entropy_bounded", _Others]
Confidence = Literal["raw", "filtered"]
Schedule = Literal["even", "block", "linear", "cosine"]
Medium = Literal["text", "image"]
EntropySum = Literal["exclusive", "inclusive"]
Finish = Literal["stop", "length"]
Split = Literal["train", "validation", "test"]
# What a response's reward is compared with (`objectives/advantages.py`).
Baseline = Literal["group_std", "group", "leave_one_out", "global", "none"]
# What a loss is averaged over (`objectives/reduce.py`).
Reduction = Literal["tokens", "sequence", "view", "constant"]
# The same of losses that have a number per position of a response.
PositionReduction = Literal["tokens", "sequence", "constant"]
Reward = float | tuple[float, ...]

FRACTION = Bound(ge=0, le=1)
AMOUNT = Bound(ge=0, le=LARGEST)
COUNT = Bound(ge=1, le=MOST_COUNT)
# Names of other libraries for the same or the nearest field.
_NAMES_OF = {
    "max_tokens": ("max_new_tokens", "max_length", "gen_length"),
    "denoising_steps": ("steps", "num_steps", "diffusion_steps"),
    "block_size": ("block_length",),
    "guidance": ("cfg_scale",),
    "strategy": ("remasking", "remasking_strategy"),
    "threshold": ("dynamic_threshold", "confidence_threshold"),
    "temperature": ("do_sample",),
    "n": ("num_return_sequences",),
    "stop": ("stop_strings",),
    "stop_token_ids": ("eos_token_id",),
}
OTHER_NAMES = {name: field for field, names in _NAMES_OF.items() for name in names}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        content: the text; each image stands where an `images.MARKER` stands.
        images: in the order of their markers.

    Raises:
        ValueError: if there are images, and more or fewer markers.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is a marker for each image; without images, markers are plain text."""
        if self.images:
            check_markers(self.content, len(self.images))

    @classmethod
    def of(cls, role: Literal["system", "user", "assistant"], *parts: str | Image) -> Self:
        """Return a message of texts and images in order; each image is followed by a line break."""
        texts = [f"{MARKER}\n" if isinstance(part, Image) else part for part in parts]
        images = tuple(part for part in parts if isinstance(part, Image))
        return cls(role, "".join(texts), images)


@dataclass(frozen=True, slots=True)
class PromptImage:
    """A picture that a prompt holds as vectors in place of token embeddings.

    Attributes:
        digest: of its content and its preparation: equal digests have equal vectors.
        count: number of vectors.
        source: its file; `None` where the vectors are given otherwise.
    """

    digest: bytes
    count: int
    source: Image | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)  # without slots, for the cached property
class Prompt:
    """A question: what the model reads, and what only the grader may see.

    Attributes:
        task: name of the task it belongs to.
        uid: its number within the task; seeds are derived from it, so it must not depend on order.
        messages: the conversation before it is rendered with a chat template.
        token_ids: `P` rendered token ids; empty until a tokenizer has seen the prompt. The j-th vector of
            its pictures, counted over all of them, has the id `-1 - j`.
        reference: what the grader needs (answer, generator entry); never shown to the model.
        images: its pictures, in the order of their vectors.
        unconditional_ids: token ids that guidance reads in place of `token_ids`; as many masks when there are
            none.
    """

    task: str
    uid: int
    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] = ()
    reference: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[PromptImage, ...] = ()
    unconditional_ids: tuple[int, ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """Digest of everything the model reads; equal for prompts that it reads alike."""
        return self.prefix_digests((len(self.token_ids),))[0]

    def prefix_digests(self, ends: Iterable[int]) -> list[bytes]:
        """Return digests of everything the model reads before each of the token positions `ends`.

        Args:
            ends: ascending.
        """
        state, start, digests = blake2b(digest_size=16), 0, list[bytes]()
        starts = image_starts(self.images)
        # A picture's vectors have the same ids in every prompt: its digest stands before the first one's.
        digests_at = {-1 - first: i.digest for i, first in zip(self.images, starts, strict=True)}
        for end in ends:
            ids = self.token_ids[start:end]
            places = [place for place, token in enumerate(ids) if token in digests_at]
            for first, stop in pairwise((0, *places, len(ids))):
                state.update(digests_at.get(ids[first], b"") if first < stop else b"")
                state.update(array("q", ids[first:stop]).tobytes())
            digests.append(state.copy().digest())
            start = end
        return digests


def image_starts(images: Sequence[PromptImage]) -> list[int]:
    """Return the number of vectors before each picture of a prompt."""
    return list(accumulate((image.count for image in images), initial=0))[: len(images)]


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


@dataclass(frozen=True, slots=True)
class SamplingParams(SamplingFields):
    """How one request is unmasked; the fields of `SamplingFields` stand first.

    Raises:
        ValueError: a value is not accepted. Accepted values fit the tensors of a batch: a value that
            failed there would take other requests with it.
        TypeError: a field does not exist.
    """

    seed: int = 0
    """First half of the key of every random draw: the same seed gives the same response, in any
    batch."""
    n: Annotated[int, COUNT] = 1
    """Responses per prompt; response `i` is drawn with seed `derive_seed(seed, i)`. The engine itself
    draws one response, with the seed as given."""
    pinned: tuple[tuple[int, int], ...] = ()
    """Positions of the response and the token ids that stand there, written before the first denoising
    step and never drawn, changed or scored. A stop token ends a response only from the last of them
    on. A block-causal model sees them from their own block on, a full-attention model at once."""

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        """Refuse fields that do not exist, naming the nearest one."""
        for name in fields:
            if name not in cls.__dataclass_fields__:
                near = get_close_matches(OTHER_NAMES.get(name, name), cls.__dataclass_fields__, 1)
                meant = f"did you mean {near[0]}?" if near else "help(SamplingParams) lists them"
                raise TypeError(f"SamplingParams has no {name}; {meant}")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Check the fields; `stop` may also be one string, and `pinned` is sorted by position."""
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if self.pinned != ():
            object.__setattr__(self, "pinned", pinned_of(self.pinned))
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


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A response together with the order in which it was revealed.

    The canvas is everything the sampler's forward passes held after the prompt, to the end of the
    last whole block. The response is its first `num_response` positions; those to its right were
    context while it was written, and are never training targets.

    Attributes:
        prompt: the question answered.
        canvas_ids: `(C,)` token ids; the mask id where no token was revealed.
        step_map: `(C,)` the denoising step, counted from 1 over the whole response, that revealed
            each position; 0 where none did: where the mask id stands, and at pinned positions
            (`sampling.pinned`), which hold their token in every view and are never targets.
        behavior_logprobs: `(C,)` log-probability of each token under the distribution it was drawn
            from, at the moment it was revealed; 0 where none was.
        num_response: `R`, stop token included.
        finish: `stop` if a stop token ended it, `length` if `max_tokens` did.
        policy_version: how many weight syncs made the weights that wrote it, or its end.
        sampling: the parameters of its request, with `block_size` and `stop_token_ids` filled in.
        num_forwards: forward passes that held one of its tokens.
        revised: whether a revealed token was changed later; such trajectories cannot be trained on.
        raw_logprobs: `(C,)` log-probability of each token under the model's own distribution
            (temperature 1, no filter) when it was revealed; its exponential is the confidence.
        entropies: `(C,)` entropy of that distribution, in nats.
        policy_versions: `(C,)` version of the weights that wrote each token; empty if all are
            `policy_version`.
    """

    prompt: Prompt
    canvas_ids: tuple[int, ...]
    step_map: tuple[int, ...]
    behavior_logprobs: tuple[float, ...]
    num_response: int
    finish: Finish
    policy_version: int
    sampling: SamplingParams
    num_forwards: int
    revised: bool = False
    raw_logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    policy_versions: tuple[int, ...] = ()

    @property
    def oldest_version(self) -> int:
        """Version of the oldest weights that wrote one of its tokens."""
        return min(self.policy_versions, default=self.policy_version)

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The `R` token ids the model wrote, stop token included."""
        return self.canvas_ids[: self.num_response]

    @property
    def num_denoising_steps(self) -> int:
        """Number of the last denoising pass that wrote a position of the canvas.

        Every pass reveals at least one position, except with `edit_threshold`: passes over a block
        without hidden positions, which may only edit it, are numbered as well.
        """
        return max(self.step_map)


@dataclass(frozen=True, slots=True)
class Score:
    """A grader's result for one response: the reward, and named parts of it for the log.

    The reward is a number, or one number per response token.
    """

    reward: Reward
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of one prompt and their rewards.

    Attributes:
        prompt: the question.
        trajectories: `G` answers to it.
        rewards: `G` rewards: a number, or one number per response token (each token has the reward of
            its denoising step; the reward of a step is the mean over its tokens).
        parts: named parts of the rewards, `G` numbers each, for the log; in RL, `outcome` is the result
            of the task's grader, whichever reward is made of it.
    """

    prompt: Prompt
    trajectories: Sequence[Trajectory]
    rewards: Sequence[Reward]
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
