"""Coupled views: a random mask and its complement (`diffusion/masked_views.py`)."""

from collections.abc import Sequence

from unmask.configs.methods.views.coupled import CoupledViews
from unmask.diffusion.masked_views import masked_views
from unmask.diffusion.methods.random import schedule_of
from unmask.diffusion.views import Views, views_of_text
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: CoupledViews,
    is_full: bool,
) -> Views:
    """Return two or three views per mask, so that every trained token is a target once per pair."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    seed, schedule = trajectory.sampling.seed, schedule_of(config)
    return masked_views(traced, seed, config.count, schedule, 3 if config.whole else 2, is_full)
