"""Some denoising steps of a trajectory, each with the same probability (AGRPO, arXiv 2510.04019).

Of the `N` views along the trajectory `M` are drawn by systematic sampling: number floor((u + m) N / M) for m = 0, ...,
M - 1 and one uniform u. Every step that has a target, the last one too, is drawn with probability M / N and
weighs N / M, so that sums over the steps are unbiased.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from unmask.configs.methods.views.steps import StepsViews
from unmask.diffusion.keyed_random import VIEW, uniform
from unmask.diffusion.likelihood import Likelihood
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory, advantage: float | Sequence[float], config: StepsViews, is_full: bool
) -> Views:
    """Return `config.count` of the views along a trajectory, in order; all if there are fewer."""
    traced = views_of_trajectory(trajectory, advantage, 1, config.post_num, is_full)
    num_views = len(traced.target)
    count = min(config.count, num_views)
    zero = torch.zeros((), dtype=torch.int64)
    start = uniform(torch.tensor(trajectory.sampling.seed), zero, zero, VIEW)
    chosen = ((start + torch.arange(count)) * num_views / count).long()  # (M,)
    weight, views = num_views / count, traced.take(chosen)
    draw = torch.zeros(count, dtype=torch.int64)
    estimate = Likelihood(views.target * weight, draw, traced.target.any(0))
    return replace(views, weight=views.weight * weight, estimate=estimate)
