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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, get_args

Strategy = Literal["static", "dynamic", "random", "left_to_right"]
Confidence = Literal["raw", "filtered"]
Finish = Literal["stop", "length"]
Split = Literal["train", "validation", "test"]
Reward = float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request is unmasked.

    Attributes:
        strategy: `static` reveals a fixed quota of the most confident slots per denoising step,
            `dynamic` every slot above `threshold` (at least the quota), `random` a quota in random
            order, `left_to_right` a quota from the left.
        block_size: slots per diffusion block; `None` is the model's own.
        denoising_steps: denoising steps a block may take; `None` is one per slot. Sets the quota.
        threshold: confidence a slot must exceed under `dynamic`.
        temperature: 0 takes the most likely token; its log-probabilities are then those of
            temperature 1.
        top_k: draw from the k most likely tokens; 0 is no limit.
        top_p: draw from the smallest set of tokens with this much probability.
        min_p: draw from tokens at least this fraction as likely as the most likely one.
        confidence: `raw` ranks slots by the model's own probability (temperature 1, no filter) of
            the drawn token, `filtered` by its probability under the filtered proposal, as the
            published samplers do.
        stop_token_ids: token ids that end a response; `None` is the model's own end-of-text ids.
        max_tokens: most response tokens.
        seed: first half of the key of every random draw; same seed, same response, whatever the
            batch.
        n: responses per prompt; response `i` is drawn with seed `derive_seed(seed, i)`.
    """

    strategy: Strategy = "dynamic"
    block_size: int | None = None
    denoising_steps: int | None = None
    threshold: float = 0.9
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    confidence: Confidence = "raw"
    stop_token_ids: tuple[int, ...] | None = None
    max_tokens: int = 256
    seed: int = 0
    n: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no sampler could honour, naming the field."""
        for name, kind in (("strategy", Strategy), ("confidence", Confidence)):
            if getattr(self, name) not in get_args(kind):
                choices = ", ".join(get_args(kind))
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be one of {choices}")
        minimum: dict[str, float] = {
            "denoising_steps": 1,
            "block_size": 1,
            "max_tokens": 1,
            "n": 1,
            "top_k": 0,
            "temperature": 0,
        }
        for name, low in minimum.items():
            value = getattr(self, name)
            if value is not None and not low <= value < inf:
                raise ValueError(f"{name} = {value}: must be a number of at least {low}")
        for name in ("top_p", "min_p", "threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} = {value}: must lie between 0 and 1")
        if self.top_p == 0:
            raise ValueError("top_p = 0 leaves no token to draw; use temperature = 0 for greedy")

    @property
    def is_filtered(self) -> bool:
        """Whether some tokens the model could write are never drawn."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


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

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The `R` token ids the model wrote, stop token included."""
        return self.canvas_ids[: self.num_response]

    @property
    def num_denoising_steps(self) -> int:
        """Denoising passes taken: every pass reveals at least one slot, so the last step's number."""
        return max(self.step_map)


@dataclass(frozen=True, slots=True)
class Score:
    """What a grader says of one response: the reward, and named parts of it for the log."""

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of one prompt and what each earned.

    Attributes:
        prompt: the question.
        trajectories: `G` answers to it.
        rewards: `G` rewards: a number, or one number per response token (the reward of a denoising
            step stands on each of its tokens).
        parts: named parts of the rewards, `G` numbers each, for the log.
    """

    prompt: Prompt
    trajectories: Sequence[Trajectory]
    rewards: Sequence[Reward]
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
