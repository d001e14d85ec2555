"""The mean field of one denoising step: the whole response hidden, the prompt under noise (d1)."""

from collections.abc import Sequence

import torch

from unmask.configs.methods.views.one_step import OneStepViews
from unmask.diffusion.masked_views import under_masks
from unmask.diffusion.prompt_noise import hide_prompt
from unmask.diffusion.views import Views, views_of_text
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: OneStepViews,
    is_full: bool,
) -> Views:
    """Return `config.count` views in which every trained position is a target."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    target = traced.target.any(0).expand(config.count, -1)
    views = under_masks(traced, target, torch.ones(1, 1), torch.arange(config.count))
    return hide_prompt(views, trajectory.sampling.seed, config.prompt_noise)
