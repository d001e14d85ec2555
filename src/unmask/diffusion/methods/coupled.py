"""Coupled views: a random mask and its complement (`diffusion/masked_views.py`)."""

from functools import partial

from unmask.diffusion.methods import random

of_trajectory = partial(random.of_trajectory, is_coupled=True)
"""Return two views per mask, so that every trained token is a target once per pair."""
