"""Views: the noisy views of one trajectory that a training step scores.

Every training method is a function to this record. RL builds it from the trajectory that the sampler
took (`views_of_trajectory`), SFT from responses and fresh noise (`views_of_responses`). The canvas is
all that a token's conditional depends on besides the prompt: under block-causal attention whole blocks
on the grid that starts at absolute position 0, under full attention all positions, as one block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.likelihood import Likelihood
from unmask.diffusion.moves import Moves
from unmask.diffusion.noise import NoiseSchedule, draw_noise
from unmask.diffusion.passes import trajectory_passes
from unmask.diffusion.trace import trace_views
from unmask.types import Prompt, PromptImage, Trajectory

# Prompt of `P` and response of `R` token ids, and the denoising step that revealed each response token, if
# it was recorded.
Demonstrated = tuple[Sequence[int], Sequence[int], Sequence[int] | None]


@dataclass(frozen=True, slots=True)
class Canvas:
    """The blocks and the size of the canvases that demonstrations are laid on.

    Attributes:
        block: `K`; under full attention the block of methods that take blocks in order, or `None`.
        is_full: whether the model's attention is full.
        fewest: fewest positions under full attention.
    """

    block: int | None
    is_full: bool = False
    fewest: int = 0

    def size_of(self, num_prompt: int, num_response: int) -> int:
        """Return the positions of a canvas: whole blocks, or under full attention at least `fewest`."""
        if self.is_full or self.block is None:
            return max(num_response, self.fewest)
        return num_response + -(num_prompt + num_response) % self.block


@dataclass(frozen=True, slots=True)
class Views:
    """The noisy views of one trajectory.

    Attributes:
        prompt_ids: `(P,)`, negative at the vectors of pictures.
        images: of the prompt, in the order of their vectors.
        prefix_digest: of everything the model reads in the prompt's whole blocks, which views of other
            prompts may share; empty where that is `prompt_ids` alone.
        pinned: `(C,)` bool, positions whose tokens stood there from the start: hidden in no view; `None` where there
            are none.
        canvas_ids: `(C,)`, whole blocks: `(P mod K + C) mod K = 0`; any number under full attention.
        hidden: `(N, C)` bool, positions that hold the mask token in each view.
        target: `(N, C)` bool, positions predicted in each view: hidden ones, and written ones that the
            sampler overwrote.
        weight: `(N, C)`, the weight of each target in the loss.
        advantages: `(C,)`, or `(N, C)` with one for each target.
        behavior_logprobs: `(N, C)`, from the engine when the target was written; 0 where there is no
            engine.
        old_logprobs: `(N, C)`, under the policy that starts the step, given each view. The engine's
            own, unless the learner scores them again because its views are not those of the engine
            (`shrink > 1`).
        temperature: log-probabilities are taken at it.
        block: `K`; `C` under full attention.
        noise_level: `(N, C)` fp64, the probability with which a random view hides each position of the
            response; None along a trajectory.
        is_causal: whether the views are block-causal, in blocks of `block`, under full attention too.
        prompt_hidden: `(N, P)` bool, prompt tokens that hold the mask token in each view; None where the
            prompt is whole.
        hints: `(N, C)` bool, hidden positions whose tokens a teacher reads in each view; None where there is none.
        inputs: `(N, C)` token ids that stand in each view where not hidden; None where those are
            `canvas_ids`, as in every view of a response in which each position was written once.
        target_ids: `(N, C)` token ids written in each view; None where those are `canvas_ids`. Or `(N, C, M)`: that
            token, and others that are scored in its place.
        moves: what each target contributes to the move of its denoising pass; None where targets are scored by
            their token.
        estimate: how the views estimate the log-likelihood of the response; None where that is the sum
            over all targets, as along a trajectory.
    """

    prompt_ids: Tensor
    images: tuple[PromptImage, ...] = field(default=(), kw_only=True)
    prefix_digest: bytes = field(default=b"", kw_only=True)
    hints: Tensor | None = field(default=None, kw_only=True)
    pinned: Tensor | None = field(default=None, kw_only=True)
    canvas_ids: Tensor
    hidden: Tensor
    target: Tensor
    weight: Tensor
    advantages: Tensor
    behavior_logprobs: Tensor
    old_logprobs: Tensor
    temperature: float
    block: int
    noise_level: Tensor | None = None
    is_causal: bool = False
    prompt_hidden: Tensor | None = None
    inputs: Tensor | None = None
    target_ids: Tensor | None = None
    moves: Moves | None = None
    estimate: Likelihood | None = None

    @property
    def counts(self) -> Tensor:
        """The tokens written in each view that are trained, `(N,)` fp64, each times its weight."""
        written = self.target if self.moves is None else self.moves.is_written
        return (written * self.weight).double().sum(-1)

    @property
    def likelihood(self) -> Likelihood:
        """How the views estimate the log-likelihood of the response."""
        if self.estimate is not None:
            return self.estimate
        one_draw = torch.zeros(len(self.target), dtype=torch.int64)
        return Likelihood(self.target.double(), one_draw, self.target.any(0))

    def block_of(self, positions: Tensor) -> Tensor:
        """Return the numbers of the blocks of canvas positions, counted from the start of the prompt."""
        # Under full attention a canvas is one block, wherever it starts.
        offset = 0 if self.block == len(self.canvas_ids) else len(self.prompt_ids)
        return (offset + positions) // self.block

    def read_in(self, view: int) -> Tensor:
        """Return the token ids `(C,)` that stand in a view where not hidden."""
        return self.canvas_ids if self.inputs is None else self.inputs[view]

    def written(self) -> Tensor:
        """Return the `(N, C)` token ids written in each view, where its targets are."""
        return (
            self.canvas_ids.expand(self.target.shape)
            if self.target_ids is None
            else self.target_ids
        )

    def take(self, index: Tensor | slice) -> "Views":
        """Return some of the views along a trajectory.

        Args:
            index: numbers or slice of the views, or `(N,)` bool.
        """
        count = len(torch.arange(len(self.target))[index])

        def pick(column: Tensor) -> Tensor:
            # One row expanded to all views stays one: as many rows would take gigabytes under full attention.
            return column[:1].expand(count, -1) if column.stride(0) == 0 else column[index]

        names = ("hidden", "target", "weight", "behavior_logprobs", "old_logprobs")
        optional = ("hints", "inputs", "target_ids")
        names += tuple(name for name in optional if getattr(self, name) is not None)
        names += ("advantages",) if self.advantages.dim() == 2 else ()
        return replace(self, **{name: pick(getattr(self, name)) for name in names})


def views_of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    shrink: int = 1,
    post_num: int = 0,
    is_full: bool = False,
) -> Views:
    """Return the views of the path a trajectory took.

    Targets are the response's positions, and the first `post_num` revealed ones right of it. Where the
    sampler overwrote tokens or masked them again, every write is a target of the view it happened in, which
    holds the tokens that stood there then.

    Args:
        trajectory: what the engine wrote.
        advantage: one number, or one per response token.
        shrink: neighbouring reveals merged into one view.
        post_num: positions right of the response that are trained too.
        is_full: whether the model's attention is full: blocks were then only the order of writing.

    Raises:
        ValueError: if a written token was changed later, and reveals are to be merged or advantages differ
            from token to token.
    """
    prompt_ids = torch.tensor(trajectory.prompt.token_ids, dtype=torch.int64)
    step_map = torch.tensor(trajectory.step_map)
    block = step_map.shape[0] if is_full else trajectory.sampling.block_size
    assert block is not None
    offset = 0 if is_full else prompt_ids.shape[0] % block
    steps = _steps_of(trajectory, step_map, advantage, (block, offset, shrink))
    position = torch.arange(step_map.shape[0])
    # Right of a stop only: what stands past `max_tokens` is cut off, not after the end.
    after = (position >= trajectory.num_response) & (step_map > 0) & (trajectory.finish == "stop")
    is_trained = (position < trajectory.num_response) | (after & (after.cumsum(0) <= post_num))
    target = steps.target & is_trained
    pinned = pinned_positions(trajectory)
    views = Views(
        prompt_ids=prompt_ids,
        images=trajectory.prompt.images,
        prefix_digest=trajectory.prompt.prefix_digests((len(prompt_ids) - offset,))[0],
        canvas_ids=torch.tensor(trajectory.canvas_ids),
        pinned=pinned,
        hidden=steps.hidden & ~pinned,
        target=target,
        weight=torch.ones(target.shape),
        advantages=_per_position(advantage, trajectory),
        behavior_logprobs=steps.logprobs,
        old_logprobs=steps.logprobs,
        temperature=trajectory.sampling.temperature or 1.0,
        block=block,
        inputs=steps.inputs,
        target_ids=steps.target_ids,
    )
    return views.take(target.any(-1))


class _Steps(NamedTuple):
    """Parts of `Views` that follow from the order of writing; `(N, C)` each."""

    hidden: Tensor
    target: Tensor
    logprobs: Tensor
    inputs: Tensor | None = None
    target_ids: Tensor | None = None


def _steps_of(
    trajectory: Trajectory,
    step_map: Tensor,
    advantage: float | Sequence[float],
    grid: tuple[int, int, int],
) -> _Steps:
    """Return the states of a trajectory and their writes; `grid` is block, offset and `shrink`."""
    block, offset, shrink = grid
    if not trajectory.revisions:
        hidden, target = trace_views(step_map, block, offset, shrink)
        logprobs = torch.tensor(trajectory.behavior_logprobs, dtype=torch.float64)
        return _Steps(hidden, target, logprobs.expand(target.shape))
    if shrink > 1:
        raise ValueError(
            f"views.shrink = {shrink}: the trajectory of prompt {trajectory.prompt.uid} changed written tokens, "
            "and merged denoising steps may write a position twice: set views.shrink = 1"
        )
    if isinstance(advantage, Sequence):
        raise ValueError(
            f"the reward of prompt {trajectory.prompt.uid} has a number for each token of the final text, and "
            "tokens that were overwritten have none (sampling.edit_threshold, remask_threshold): give one number "
            "per response"
        )
    found = trajectory_passes(trajectory, block, offset)
    return _Steps(found.hidden, found.target, found.logprobs, found.inputs, found.target_ids)


def views_of_text(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    post_num: int = 0,
    is_full: bool = False,
) -> Views:
    """Return views along a trajectory of the writes that stand at the end alone, for methods that mask the text anew.

    What is a target of one of them is what such a method trains; see `views_of_trajectory`.
    """
    return views_of_trajectory(replace(trajectory, revisions=()), advantage, 1, post_num, is_full)


def pinned_positions(trajectory: Trajectory) -> Tensor:
    """Return `(C,)` bool, the positions whose tokens stood there from the start: hidden in no view."""
    is_pinned = torch.zeros(len(trajectory.canvas_ids), dtype=torch.bool)
    is_pinned[[position for position, _ in trajectory.sampling.pinned]] = True
    return is_pinned


def _per_position(advantage: float | Sequence[float], trajectory: Trajectory) -> Tensor:
    """Return an advantage per canvas position `(C,)`; positions right of the response take its last token's."""
    num_positions, num_response = len(trajectory.canvas_ids), trajectory.num_response
    if not isinstance(advantage, Sequence):
        return torch.full((num_positions,), float(advantage))
    assert len(advantage) == num_response
    values = torch.tensor(advantage, dtype=torch.float32)
    return torch.cat((values, values[-1:].expand(num_positions - num_response)))


def views_of_responses(
    demonstrations: Sequence[tuple[Sequence[int], Sequence[int]]],
    block: int | None,
    noise: tuple[NoiseSchedule, int],
    seeds: Sequence[int],
    canvas_tokens: int = 0,
) -> list[Views]:
    """Return fresh noisy views of given responses.

    A response is padded, to whole blocks or to `canvas_tokens`, with positions that are hidden in every
    view and never scored: the model meets them as the sampler will, still masked.

    Args:
        demonstrations: prompts of `P` and responses of `R` token ids, end-of-text included.
        block: `K`; `None` under full attention, where a canvas is one block.
        noise: noise levels, and how many views are drawn of each response.
        seeds: keys of the draws, one each; a response's noise does not depend on the others.
        canvas_tokens: fewest positions of a canvas under full attention.
    """
    if not demonstrations:
        return []
    schedule, num_views = noise
    lengths = [(len(prompt_ids), len(response_ids)) for prompt_ids, response_ids in demonstrations]
    position = torch.arange(max(num_response for _, num_response in lengths))
    offsets = torch.tensor([num_prompt % block if block else 0 for num_prompt, _ in lengths])
    blocks = (position + offsets[:, None]) // (block or len(position))  # (responses, R)
    sizes = [r + -(p + r) % block if block else max(r, canvas_tokens) for p, r in lengths]
    # Drawn and padded for all responses at once: the keyed hash is many small operations.
    drawn, level = draw_noise(torch.tensor(seeds), num_views, blocks, schedule)
    is_response = position < torch.tensor([r for _, r in lengths])[:, None, None]
    padding = (0, max(sizes) - len(position))
    target = F.pad((drawn < level) & is_response, padding)  # (responses, N, C of the widest canvas)
    level = F.pad(level * is_response, padding)
    is_response = F.pad(is_response, padding)
    hidden, weight = target | ~is_response, is_response.float().expand_as(level)
    rows = zip(demonstrations, sizes, hidden, target, weight, level, strict=True)
    return [
        _views_of_response(pair, block or size, *(column[:, :size] for column in columns))
        for pair, size, *columns in rows
    ]


def views_under_noise(
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    num_positions: int,
    block: int,
    target: Tensor,
    hidden: Tensor | None = None,
) -> Views:
    """Return the views of a response that hide given positions of it.

    Args:
        prompt_ids: `P` token ids.
        response_ids: `R` token ids.
        num_positions: `C`, of the canvas.
        block: `K`; `C` under full attention.
        target: `(N, R)` bool, hidden and predicted.
        hidden: `(N, R)` bool, hidden, where that is more than `target`.
    """
    padding = (0, num_positions - len(response_ids))
    hidden = F.pad(target if hidden is None else hidden, padding, value=True)
    target = F.pad(target, padding)
    weight = torch.ones(()).expand(target.shape)
    return _views_of_response((prompt_ids, response_ids), block, hidden, target, weight)


def with_images(views: Views, images: Sequence[PromptImage], is_full: bool) -> Views:
    """Return the views of a response whose prompt holds images.

    Args:
        views: made of its token ids.
        images: in the order of their vectors.
        is_full: whether the model's attention is full.
    """
    if not images:
        return views
    ids = tuple(views.prompt_ids.tolist())
    offset = 0 if is_full else len(ids) % views.block
    prompt = Prompt("", 0, (), ids, images=tuple(images))
    (digest,) = prompt.prefix_digests((len(ids) - offset,))
    return replace(views, images=prompt.images, prefix_digest=digest)


def _views_of_response(
    demonstration: tuple[Sequence[int], Sequence[int]],
    block: int,
    hidden: Tensor,
    target: Tensor,
    weight: Tensor,
    noise_level: Tensor | None = None,
) -> Views:
    """Return views of a response, whose masks are `(N, C)`; its canvas is filled with token 0."""
    prompt_ids, response_ids = demonstration
    num_views, num_positions = target.shape
    padding = [0] * (num_positions - len(response_ids))
    zeros = torch.zeros((), dtype=torch.float64)
    return Views(
        prompt_ids=torch.tensor(prompt_ids, dtype=torch.int64),
        canvas_ids=torch.tensor([*response_ids, *padding], dtype=torch.int64),
        hidden=hidden,
        target=target,
        weight=weight,
        advantages=torch.ones(()).expand(num_positions),
        behavior_logprobs=zeros.expand(num_views, num_positions),
        old_logprobs=zeros.expand(num_views, num_positions),
        temperature=1.0,
        block=block,
        noise_level=noise_level,
    )
