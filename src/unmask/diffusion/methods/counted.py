"""Masks that hide a drawn number of tokens, with their complements or without (`diffusion/counted_masks.py`).

alone    k uniform on 1, ..., n   weight n / k                                    (BGPO, EBPO)
coupled  k uniform on 0, ..., n   weight (n + 1) / k and (n + 1) / (n - k), half  (ESPO)
"""

from collections.abc import Sequence

import torch

from unmask.configs.methods.views.counted import CountedViews
from unmask.diffusion.counted_masks import draw_orders, sizes_of
from unmask.diffusion.masked_views import blocks_of, coupled_masks, under_masks
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_text
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: CountedViews,
    is_full: bool,
) -> Views:
    """Return one view per mask, or a view and its complement; a view without targets is left out."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    is_trained, units = traced.target.any(0), blocks_of(traced, is_full)
    if config.level == "response":
        units = torch.zeros_like(units)
    schedule = NoiseSchedule(0.0, 1.0, "block", config.spread)
    seed, sizes = trajectory.sampling.seed, sizes_of(units, is_trained)  # (C,)
    rank, level = draw_orders(seed, config.count, units, is_trained, schedule)
    if config.coupled:
        hidden = (level * (sizes + 1)).floor()
        pairs = torch.stack((hidden, sizes - hidden), 1) / (sizes + 1)
        target = is_trained & (rank < hidden)
        return coupled_masks(traced, torch.stack((target, is_trained & ~target), 1), pairs)
    hidden = (level * sizes).floor() + 1
    draw = torch.arange(config.count)
    return under_masks(traced, is_trained & (rank < hidden), hidden / sizes, draw)
