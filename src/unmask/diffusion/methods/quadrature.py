"""Masks at the nodes of a Gauss-Legendre rule: the ELBO as an integral over the noise level (GDPO).

    ELBO = int_0^1 E_mask[1/t sum of hidden log pi] dt ~ sum_n w_n / t_n sum of hidden log pi

The mask of node t_n hides the nearest lower number of tokens to t_n R, at least one, as published. Its sum is
nevertheless weighed by 1/t_n, so that short responses are estimated with a bias.
"""

from collections.abc import Sequence

import numpy as np
import torch

from unmask.configs.methods.views.quadrature import QuadratureViews
from unmask.diffusion.counted_masks import draw_orders
from unmask.diffusion.masked_views import under_masks
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_text
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: QuadratureViews,
    is_full: bool,
) -> Views:
    """Return `config.count` draws of `config.points` views each."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    is_trained = traced.target.any(0)
    units, num_views = torch.zeros(len(is_trained), dtype=torch.int64), config.count * config.points
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(config.points))
    # From [-1, 1] to [0, 1]; (N, 1), the nodes of one draw after another.
    level = ((nodes + 1) / 2).repeat(config.count)[:, None]
    share = (weights / 2).repeat(config.count)[:, None]
    seed, schedule = trajectory.sampling.seed, NoiseSchedule(1.0, 1.0)
    rank, _ = draw_orders(seed, num_views, units, is_trained, schedule)
    hidden = (level * is_trained.sum()).floor().clamp(min=1)
    draw = torch.arange(config.count).repeat_interleave(config.points)
    return under_masks(traced, is_trained & (rank < hidden), level, draw, share)
