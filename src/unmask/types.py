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
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, pairwise
from typing import Any, Literal, Self

from unmask.images import MARKER, Image, check_markers
from unmask.sampling_params import SamplingParams

Finish = Literal["stop", "length"]
Split = Literal["train", "validation", "test"]
# What a response's reward is compared with (`objectives/advantages.py`).
Baseline = Literal["group_std", "group", "leave_one_out", "global", "none"]
# What a loss is averaged over (`objectives/reduce.py`).
Reduction = Literal["tokens", "sequence", "view", "constant"]
# The same of losses that have a number per position of a response.
PositionReduction = Literal["tokens", "sequence", "constant"]
Reward = float | tuple[float, ...]


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


@dataclass(frozen=True, slots=True)
class Revision:
    """A write that did not stand to the end, or the masking of a written position.

    Attributes:
        step: the denoising step of the event.
        position: on the canvas.
        token: the id written; the mask id where it is masked again.
        logprob: log-probability of the token when it was written; 0 where it is masked again.
        kind: `write`, which a later event at the position replaced, or `remask`.
        policy_version: version of the weights of that step; `None` if they are those of the trajectory's
            `policy_version`.
    """

    step: int
    position: int
    token: int
    logprob: float
    kind: Literal["write", "remask"]
    policy_version: int | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A response together with the order in which it was revealed.

    The canvas is everything the sampler's forward passes held after the prompt, to the end of the
    last whole block. The response is its first `num_response` positions; those to its right were
    context while it was written, and are never training targets.

    Some samplers overwrite tokens or mask them again. `step_map`, `behavior_logprobs` and `canvas_ids` are
    of the write that stands at the end, and `revisions` holds every other event: the state before
    a denoising step follows from the last event before it at each position.

    Attributes:
        prompt: the question answered.
        canvas_ids: `(C,)` token ids; the mask id where no token was revealed.
        step_map: `(C,)` the denoising step, counted from 1 over the whole response, that wrote
            each position; 0 where none did: where the mask id stands, and at pinned positions
            (`sampling.pinned`), which hold their token in every view and are never targets.
        behavior_logprobs: `(C,)` log-probability of each token under the distribution it was drawn
            from, at the moment it was revealed; 0 where none was.
        num_response: `R`, stop token included.
        finish: `stop` if a stop token ended it, `length` if `max_tokens` did.
        policy_version: how many weight syncs made the weights that wrote it, or its end.
        sampling: the parameters of its request, with `block_size` and `stop_token_ids` filled in.
        num_forwards: forward passes that held one of its tokens.
        revisions: earlier writes and re-maskings, ascending by step and position.
        num_steps: denoising steps taken, which number the blocks' passes in order. Where no token may change,
            it is the last step of `step_map`, whatever is given; elsewhere that is the default. A step that
            wrote nothing occurs only as the last of a block that may still be edited, and the first of a
            block always reveals.
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
    revisions: tuple[Revision, ...] = ()
    num_steps: int = 0
    raw_logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    policy_versions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Derive the number of denoising steps where every step wrote a token that stands."""
        if not self.num_steps or not (self.revisions or self.sampling.revises):
            object.__setattr__(self, "num_steps", max(self.step_map, default=0))

    @property
    def revised(self) -> bool:
        """Whether a written token was changed or masked later."""
        return bool(self.revisions)

    @property
    def oldest_version(self) -> int:
        """Version of the oldest weights that wrote one of its tokens, earlier writes included."""
        earlier = (r.policy_version for r in self.revisions if r.policy_version is not None)
        return min((*self.policy_versions, *earlier), default=self.policy_version)

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The `R` token ids the model wrote, stop token included."""
        return self.canvas_ids[: self.num_response]


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
