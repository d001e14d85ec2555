"""The nouns: the frozen records that walk from one stage to the next.

tasks make `Prompt`s; the engine answers each with `Trajectory`s; rewards turn the trajectories of
one prompt into a `Group`; `diffusion.views` turns every trajectory into noisy views, and the
learner trains on those. Nothing here imports more than the standard library, so every stage may
know these records without knowing the stage that made them. Records that hold tensors live in
`diffusion/views.py`.

Legend of dimensions, the same everywhere:

    B rows                     K tokens of a diffusion block     D model width
    L tokens of a row          S denoising steps                 H query heads, Hk key/value heads
    P prompt tokens            N noisy views of a trajectory     E width of a head
    R response tokens          G trajectories of one prompt      T packed tokens of a forward pass
    C canvas tokens            V vocabulary                      M KV pages, W tokens of a page
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from sys import float_info
from typing import Any, Literal, Self, get_args

Strategy = Literal[
    "static", "dynamic", "factor", "entropy_bounded", "margin", "entropy", "random", "left_to_right"
]
Confidence = Literal["raw", "filtered"]
Schedule = Literal["even", "block", "linear"]
EntropySum = Literal["exclusive", "inclusive"]
Finish = Literal["stop", "length"]
Split = Literal["train", "validation", "test"]
Reward = float | tuple[float, ...]

# The fields of `SamplingParams` that are counts, and the least each may be.
COUNTS = {
    "denoising_steps": 1,
    "block_size": 1,
    "sub_block_size": 1,
    "max_tokens": 1,
    "n": 1,
    "top_k": 0,
    "max_edit_steps": 0,
}
CHOICES = {
    "strategy": Strategy,
    "confidence": Confidence,
    "schedule": Schedule,
    "entropy_sum": EntropySum,
}
MOST_COUNT = 2**31 - 1  # counts are added and multiplied in int64
TEMPERATURES = (1e-6, 1e6)  # what fp32 logits survive
AMOUNTS = ("temperature", "factor", "entropy_bound", "guidance")
FRACTIONS = ("top_p", "min_p", "threshold", "edit_threshold", "remask_threshold")
# Names of other libraries for the same or the nearest field.
OTHER_NAMES = {
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "gen_length": "max_tokens",
    "steps": "denoising_steps",
    "num_steps": "denoising_steps",
    "diffusion_steps": "denoising_steps",
    "block_length": "block_size",
    "cfg_scale": "guidance",
    "remasking": "strategy",
    "remasking_strategy": "strategy",
    "dynamic_threshold": "threshold",
    "confidence_threshold": "threshold",
    "do_sample": "temperature",
    "num_return_sequences": "n",
    "stop_strings": "stop",
    "eos_token_id": "stop_token_ids",
}
OPTIONAL = ("denoising_steps", "block_size", "sub_block_size", "edit_threshold", "remask_threshold")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)  # without slots, for the cached property
class Prompt:
    """A question: what the model reads, and what only the grader may see.

    Attributes:
        task: name of the task it belongs to.
        uid: its number within the task; seeds are derived from it, so it must not depend on order.
        messages: the conversation before it is rendered with a chat template.
        token_ids: `P` rendered token ids; empty until a tokenizer has seen the prompt.
        reference: what the grader needs (answer, generator entry); never shown to the model.
    """

    task: str
    uid: int
    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] = ()
    reference: Mapping[str, Any] = field(default_factory=dict)

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
        for end in ends:
            state.update(array("q", self.token_ids[start:end]).tobytes())
            digests.append(state.copy().digest())
            start = end
        return digests


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request is unmasked.

    Attributes:
        strategy: `static` reveals a fixed quota of the most confident slots per denoising step,
            `dynamic` every slot above `threshold`, `factor` and `entropy_bounded` as many as
            `factor` and `entropy_bound` allow (these three at least the quota); `margin` and
            `entropy` a quota by the lead of the likeliest token and by the distribution's
            entropy, `random` in random order, `left_to_right` from the left.
        block_size: slots per diffusion block; `None` is the model's own. Under full attention blocks
            are only the order of writing, counted from the response's start.
        sub_block_size: slots of a block that are open at a time, from the left; `None` is the
            model's own.
        denoising_steps: denoising steps a block may take; `None` is one per slot. Sets the quota;
            sub-blocks, masks that come back, and the first slot of a shifted model's block, which
            is written alone, cost steps beside.
        schedule: `even` splits a block's masks over its steps; `block` splits its slots, of which
            the first block's may be prompt (SDAR); `linear` follows Dream's time grid.
        threshold: confidence a slot must exceed under `dynamic`.
        factor: `f` of `factor`: the n most confident slots are revealed while the last of them has
            a confidence above `1 - f / (n + 1)` (Fast-dLLM, Wu et al. 2025).
        entropy_bound: nats of `entropy_bounded`: slots of least entropy are revealed while the sum
            of entropies that `entropy_sum` names stays within this.
        entropy_sum: `exclusive` sums over the slots before a slot, and the sum may reach the bound
            (Ben-Hamu et al. 2025); `inclusive` counts the slot itself, and the sum must stay below
            the bound (JetEngine), so that the bound is on all that is revealed at once.
        temperature: 0 takes the most likely token; its log-probabilities are then those of
            temperature 1.
        top_k: draw from the k most likely tokens; 0 is no limit.
        top_p: draw from the smallest set of tokens with this much probability.
        min_p: draw from tokens at least this fraction as likely as the most likely one.
        confidence: `raw` ranks slots by the model's own distribution (temperature 1, no filter),
            `filtered` by the filtered proposal, as the published samplers do.
        guidance: classifier-free guidance `g`: logits `u + (g + 1)(c - u)`, with `u` of the prompt
            masked out; 0 is none.
        edit_threshold: written tokens of the current block are written again where the model is
            surer than this of another one (LLaDA2.1); `None` never.
        max_edit_steps: passes over a block without masks that may still edit it.
        remask_threshold: written tokens of the current block whose probability has fallen below
            this are masked again (dInfer); `None` never.
        stop_token_ids: token ids that end a response; `None` is the model's own end-of-text ids.
        stop: texts that end a response, or one; looked for when a block is finished, and not part of the
            response's text. A special token that a text spells ends it too, be it one token or
            spelled by others.
        max_tokens: most response tokens; under full attention, the slots of the canvas.
        seed: first half of the key of every random draw; same seed, same response, whatever the
            batch.
        n: responses per prompt; response `i` is drawn with seed `derive_seed(seed, i)`. The engine
            itself draws one, with the seed as it is.
    """

    strategy: Strategy = "dynamic"
    block_size: int | None = None
    sub_block_size: int | None = None
    denoising_steps: int | None = None
    schedule: Schedule = "even"
    threshold: float = 0.9
    factor: float = 1.0
    entropy_bound: float = 0.1
    entropy_sum: EntropySum = "exclusive"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    confidence: Confidence = "raw"
    guidance: float = 0.0
    edit_threshold: float | None = None
    max_edit_steps: int = 16
    remask_threshold: float | None = None
    stop_token_ids: tuple[int, ...] | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    seed: int = 0
    n: int = 1

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        """Refuse fields that do not exist, naming the one that is meant."""
        for name in fields:
            if name not in cls.__dataclass_fields__:
                near = get_close_matches(OTHER_NAMES.get(name, name), cls.__dataclass_fields__, 1)
                meant = f"did you mean {near[0]}?" if near else "help(SamplingParams) lists them"
                raise TypeError(f"SamplingParams has no {name}; {meant}")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Refuse values that no sampler could honour, naming the field.

        What passes here fits the tensors of a batch: a value that fails there takes others with it.
        """
        for name, kind in CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                names = ", ".join(get_args(kind))
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be one of {names}")
        for name, value in self._given(COUNTS):
            _check_count(name, value, COUNTS[name])
        for name, value in self._given(AMOUNTS):
            _check_number(name, value, float_info.max)
        for name, value in self._given(FRACTIONS):
            _check_number(name, value, 1)
        _check_int("seed", self.seed)
        stop: Any = (self.stop,) if isinstance(self.stop, str) else self.stop
        _check_stop(stop)
        object.__setattr__(self, "stop", tuple(stop))
        if self.stop_token_ids is not None:
            _check_stop_token_ids(self.stop_token_ids)
            object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        self._check_extremes()

    def _given(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield the fields that are not left to the model, with their values."""
        for name in names:
            value = getattr(self, name)
            if value is not None or name not in OPTIONAL:
                yield name, value

    def _check_extremes(self) -> None:
        if self.threshold == 0:
            raise ValueError(
                "threshold = 0 reveals a block at once; use denoising_steps = 1 for that"
            )
        least, most = TEMPERATURES
        if self.temperature and not least <= self.temperature <= most:
            raise ValueError(
                f"temperature = {self.temperature}: logits divided by it are no numbers any more; give "
                f"{least} to {most}, or 0 for greedy"
            )
        if self.top_p == 0:
            raise ValueError("top_p = 0 leaves no token to draw; use temperature = 0 for greedy")

    @property
    def is_filtered(self) -> bool:
        """Whether some tokens the model could write are never drawn."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def revises(self) -> bool:
        """Whether written tokens may be written or masked again."""
        return self.edit_threshold is not None or self.remask_threshold is not None


def _check_int(name: str, value: Any) -> None:
    if type(value) is not int:  # isinstance lets True through
        kind = type(value).__name__
        raise ValueError(f"{name} = {value!r}: must be a whole number (int), not {kind}")


def _check_count(name: str, value: Any, low: int) -> None:
    _check_int(name, value)
    if not low <= value <= MOST_COUNT:
        raise ValueError(
            f"{name} = {value}: must be a number of at least {low}, and below {MOST_COUNT + 1}"
        )


def _check_number(name: str, value: Any, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} = {value!r}: must be a number, not {type(value).__name__}")
    if not 0 <= value <= high:
        limits = "lie between 0 and 1" if high == 1 else "be a finite number of at least 0"
        raise ValueError(f"{name} = {value}: must {limits}")


def _check_stop(stop: Any) -> None:
    if not isinstance(stop, tuple | list) or not all(isinstance(text, str) for text in stop):
        raise ValueError(f"stop = {stop!r}: must be a tuple of texts")
    if "" in stop:
        raise ValueError(f"stop = {stop!r}: an empty text ends every response; leave it out")


def _check_stop_token_ids(token_ids: Any) -> None:
    if not isinstance(token_ids, tuple | list):
        raise ValueError(
            f"stop_token_ids = {token_ids!r}: must be a tuple of token ids; write ({token_ids!r},)"
        )
    for token in token_ids:
        _check_count("stop_token_ids", token, 0)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A response together with the order in which it was revealed.

    The canvas is everything the sampler's forward passes held after the prompt, to the end of the
    last whole block. The response is its first `num_response` slots; slots right of it are context
    the model saw while it wrote, never something it is trained to write.

    Attributes:
        prompt: the question answered.
        canvas_ids: `(C,)` token ids; the mask id where no token was revealed.
        step_map: `(C,)` the denoising step, counted from 1 over the whole response, that revealed
            each slot; 0 where none did.
        behavior_logprobs: `(C,)` log-probability of each token under the distribution it was drawn
            from, at the moment it was revealed; 0 where none was.
        num_response: `R`, stop token included.
        finish: `stop` if a stop token ended it, `length` if `max_tokens` did.
        policy_version: how many weight syncs made the weights that wrote it.
        sampling: how it was unmasked, with `block_size` and `stop_token_ids` filled in.
        num_forwards: forward passes that held one of its tokens.
        revised: whether a revealed token was changed later; such trajectories cannot be trained on.
        raw_logprobs: `(C,)` log-probability of each token under the model's own distribution
            (temperature 1, no filter) when it was revealed; its exponential is the confidence.
        entropies: `(C,)` entropy of that distribution, in nats.
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

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The `R` token ids the model wrote, stop token included."""
        return self.canvas_ids[: self.num_response]

    @property
    def num_denoising_steps(self) -> int:
        """Number of the last denoising pass that wrote a slot of the canvas.

        Every pass reveals one at least, but where `edit_threshold` is set: the passes that look
        for something to edit in a block without masks are numbered too.
        """
        return max(self.step_map)


@dataclass(frozen=True, slots=True)
class Score:
    """What a grader says of one response: the reward, and named parts of it for the log.

    The reward is a number, or one number per response token.
    """

    reward: Reward
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of one prompt and what each earned.

    Attributes:
        prompt: the question.
        trajectories: `G` answers to it.
        rewards: `G` rewards: a number, or one number per response token (the reward of a denoising
            step stands on each of its tokens; what a step earned is the mean over its tokens).
        parts: named parts of the rewards, `G` numbers each, for the log; in RL `outcome` is what the
            task's grader said, whatever the reward makes of it.
    """

    prompt: Prompt
    trajectories: Sequence[Trajectory]
    rewards: Sequence[Reward]
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
