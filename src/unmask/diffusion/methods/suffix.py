"""The views along a trajectory, with hints for a teacher (d-OPSD, arXiv 2606.18195).

In a view the sampler was about to write in one of its blocks. Of the `n` positions right of that block which the
response wrote later, `floor(retain n)` are drawn with equal probability: a teacher reads these tokens, the model that
is trained does not.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from unmask.configs.methods.views.suffix import SuffixViews
from unmask.diffusion.keyed_random import HINT, uniform
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory, advantage: float | Sequence[float], config: SuffixViews, is_full: bool
) -> Views:
    """Return the views of `trace`, with `hints`."""
    views = views_of_trajectory(trajectory, advantage, 1, config.post_num, is_full)
    num_views, num_positions = views.target.shape
    block = trajectory.sampling.block_size or num_positions
    position = torch.arange(num_positions)
    # The block of a view is that of its first target: all of them are in one.
    end = (views.target.long().argmax(-1) // block + 1) * block  # (N,)
    is_right = position >= end[:, None]  # (N, C)
    candidates = is_right & views.hidden & (torch.tensor(trajectory.step_map) > 0)
    seed, view = torch.tensor(trajectory.sampling.seed), torch.arange(num_views)[:, None]
    drawn = uniform(seed, position, view, HINT).masked_fill(~candidates, 2.0)
    count = (candidates.sum(-1, keepdim=True) * config.retain).long()
    return replace(views, hints=drawn.argsort(-1).argsort(-1) < count)  # ranks below the count
