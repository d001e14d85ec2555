"""The views of a trajectory's moves: every denoising pass, and what the sampler drew in it.

Targets are not the tokens written alone: also the open positions whose draws were lost, and the written ones
that could have been edited (`diffusion/moves.py`). Passes that wrote nothing are moves too. Positions right of
the response were drawn like the others, so they are part of the moves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.moves import REVEALED, Factors, MoveRules, Moves
from unmask.diffusion.passes import trajectory_passes
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.unmask import open_now
from unmask.diffusion.views import Views, pinned_positions, views_of_trajectory
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory


def views_of_moves(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    is_full: bool = False,
    is_shifted: bool = False,
    scores_past_stop: bool = True,
) -> Views:
    """Return a view of each denoising pass, whose targets are the factors of its move.

    Args:
        trajectory: what the engine wrote.
        advantage: of the response.
        is_full: whether the model's attention is full.
        is_shifted: whether it predicts a token in the row before it.
        scores_past_stop: whether positions right of the response are trained too. If not, the tokens revealed
            there have the weight 0: they decide which draws were lost.

    Raises:
        ValueError: if advantages differ from token to token: a draw that was lost has no token.
    """
    if isinstance(advantage, Sequence):
        raise ValueError(
            f"the reward of prompt {trajectory.prompt.uid} has a number for each token, and loss.likelihood = "
            '"move" scores draws that wrote none: give one number per response, or set loss.likelihood = "revealed"'
        )
    params, num_positions = trajectory.sampling, len(trajectory.canvas_ids)
    assert params.block_size is not None
    offset = 0 if is_full else len(trajectory.prompt.token_ids) % params.block_size
    passes = trajectory_passes(trajectory, num_positions if is_full else params.block_size, offset)
    is_current = _current_blocks(trajectory, offset, is_full, len(passes.target))
    first_is_alone = is_shifted and not is_full
    opened = open_positions(passes.hidden, params, offset, first_is_alone) & is_current
    may_change = ~passes.hidden & ~pinned_positions(trajectory) & is_current
    if first_is_alone:
        may_change &= (torch.arange(num_positions) + offset) % params.block_size > 0
    assert not (passes.target & ~(opened | may_change)).any(), "the sampler wrote what it could not"
    # A position that stands before a pass and is hidden after it was masked again.
    remasked = ~passes.hidden & F.pad(passes.hidden[1:], (0, 0, 0, 1))
    rules = MoveRules.of(params)
    kinds = rules.kinds(opened, may_change, passes.target, remasked)
    weight = torch.ones(kinds.shape)
    if not scores_past_stop:
        past = torch.arange(num_positions) >= trajectory.num_response
        kinds = kinds.masked_fill(past & (kinds != REVEALED), 0)
        weight = weight.masked_fill(past, 0)
    views = views_of_trajectory(replace(trajectory, revisions=()), advantage, is_full=is_full)
    is_revised = bool(trajectory.revisions)
    return replace(
        views,
        hidden=passes.hidden,
        target=kinds > 0,
        weight=weight,
        behavior_logprobs=passes.logprobs,
        old_logprobs=torch.zeros_like(passes.logprobs),
        inputs=passes.inputs if is_revised else None,
        target_ids=passes.target_ids.where(passes.target, passes.inputs) if is_revised else None,
        moves=Moves(kinds, rules),
    )


def open_positions(
    hidden: Tensor, params: SamplingParams, offset: int, first_is_alone: bool
) -> Tensor:
    """Return the positions `(N, C)` of each block that the sampler reveals from, given the hidden ones.

    Args:
        hidden: `(N, C)` bool.
        params: block size and sub-block size.
        offset: positions of the first block that belong to the prompt.
        first_is_alone: whether a block's first position is revealed before the others.
    """
    block = params.block_size
    assert block is not None
    num_views, num_positions = hidden.shape
    grid = F.pad(hidden, (offset, -(offset + num_positions) % block)).view(-1, block)
    opened = open_now(grid, SamplingTensors.of([params], hidden.device))  # (N * blocks, K)
    if first_is_alone:
        is_first = torch.arange(block, device=hidden.device) == 0
        opened = torch.where(grid[:, :1], is_first, opened)
    return opened.view(num_views, -1)[:, offset : offset + num_positions]


def _current_blocks(trajectory: Trajectory, offset: int, is_full: bool, num_views: int) -> Tensor:
    """Return `(N, C)` bool, the positions whose block is denoised in each view."""
    block, num_positions = trajectory.sampling.block_size, len(trajectory.canvas_ids)
    assert block is not None
    num_passes = trajectory_passes(trajectory, block, offset).num_passes  # (C,)
    start = torch.zeros_like(num_passes)
    if is_full:  # one view after another, block after block
        counts = num_passes[::block]
        start = (counts.cumsum(0) - counts).repeat_interleave(block)[:num_positions]
    number = torch.arange(num_views)[:, None]
    return (number >= start) & (number < start + num_passes)


def factors_of(documents: Iterable[tuple[Views, Tensor, Tensor]]) -> Factors | None:
    """Return the factors of all targets of documents, each of whole moves; `None` where views have no moves.

    Args:
        documents: views, and view and canvas position `(s,)` of each target.
    """
    parts = list[tuple[Tensor, Tensor, Tensor]]()
    for number, (source, views, position) in enumerate(documents):
        if source.moves is None:
            return None
        block = source.block_of(position)
        place = torch.stack((torch.full_like(views, number), views, block, position), 1)
        rules = torch.tensor(source.moves.rules.numbers, dtype=torch.float64)
        parts.append((source.moves.kinds[views, position], place, rules.expand(len(views), -1)))
    kinds, places, rules = (torch.cat(columns) for columns in zip(*parts, strict=True))
    moves = places[:, :3].unique(dim=0, return_inverse=True)[1]
    return Factors.of(kinds, moves, places[:, 3], rules)
