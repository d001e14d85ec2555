"""One block under noise, the tokens before it clean and those after it hidden (SPG, arXiv 2510.09541).

A view hides k random tokens of the n of its block, k uniform on 1, ..., n, everything after the block, and with
a small probability each token before it. All hidden tokens of the response are predicted, and weigh the
inverse of their share of the response, as in the published code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.configs.methods.views.blockwise import BlockwiseViews
from unmask.diffusion.counted_masks import draw_orders, sizes_of
from unmask.diffusion.keyed_random import PROMPT_NOISE, VIEW, uniform
from unmask.diffusion.masked_views import blocks_of, under_masks
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.prompt_noise import hide_prompt
from unmask.diffusion.views import Views, views_of_text
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: BlockwiseViews,
    is_full: bool,
) -> Views:
    """Return `config.count` views, each a draw of its own."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    seed, is_trained = trajectory.sampling.seed, traced.target.any(0)
    position = torch.arange(len(is_trained))
    size = trajectory.sampling.block_size or len(position)
    blocks = position // size if is_full else blocks_of(traced, is_full)
    view = torch.arange(config.count)[:, None]
    chosen = _choose(seed, config.count, blocks[is_trained].unique())[:, None]  # (N, 1)
    # One noise level per view: of its block alone.
    schedule = NoiseSchedule(0.0, 1.0, "response")
    rank, level = draw_orders(seed, config.count, blocks, is_trained, schedule)
    hidden = (level * sizes_of(blocks, is_trained)).floor() + 1
    # Positions of the canvas after those of the prompt, which `hide_prompt` draws for.
    drawn = uniform(torch.tensor(seed), len(traced.prompt_ids) + position, view, PROMPT_NOISE)
    is_hidden = torch.where(blocks == chosen, rank < hidden, drawn < config.context_noise)
    target = is_trained & (is_hidden | (blocks > chosen))
    share = target.double().sum(-1, keepdim=True) / is_trained.sum()
    views = under_masks(traced, target, share, torch.arange(config.count))
    return hide_prompt(views, seed, config.context_noise)


def _choose(seed: int, count: int, blocks: Tensor) -> Tensor:
    """Draw `count` of the given blocks, none again before all were drawn."""
    drawn = uniform(torch.tensor(seed), blocks, torch.zeros((), dtype=torch.int64), VIEW)
    return blocks[drawn.argsort()[torch.arange(count) % len(blocks)]]
