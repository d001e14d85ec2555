"""Coupled views: a random mask and its complement (`diffusion/masked_views.py`)."""

from collections.abc import Sequence

from unmask.configs.methods.views.coupled import CoupledViews
from unmask.diffusion.methods import random
from unmask.diffusion.views import Views
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory, advantage: float | Sequence[float], config: CoupledViews, is_full: bool
) -> Views:
    """Return two views per mask, so that every trained token is a target once per pair."""
    return random.of_trajectory(trajectory, advantage, config, is_full, is_coupled=True)
