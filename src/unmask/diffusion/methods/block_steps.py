"""One denoising step of every block, in one view (dTRPO, arXiv 2603.18806).

Of the N_b steps in which block b was revealed one is drawn, s_b, uniformly. The view hides every token of a
block that its step s_b or a later one reveals, and predicts those of s_b, each weighed by N_b:

    sum over b of N_b sum of log pi(tokens of s_b | earlier steps of b, whole blocks before)

is unbiased for the log-probability of the whole trajectory. In block-causal models all blocks of a draw are
scored in one pass, as noisy blocks against the clean ones before. Without a recorded order a block is taken to
be revealed in a random one, `per_step` tokens at a time.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unmask.configs.methods.views.block_steps import BlockStepsViews
from unmask.diffusion.counted_masks import draw_orders, sizes_of
from unmask.diffusion.likelihood import Likelihood
from unmask.diffusion.masked_views import blocks_of
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_text
from unmask.types import Trajectory


def of_trajectory(
    trajectory: Trajectory,
    advantage: float | Sequence[float],
    config: BlockStepsViews,
    is_full: bool,
) -> Views:
    """Return `config.count` views, each a draw of its own."""
    traced = views_of_text(trajectory, advantage, config.post_num, is_full)
    is_trained, units = traced.target.any(0), blocks_of(traced, is_full)  # (C,)
    schedule, count = NoiseSchedule(0.0, 1.0, "block"), config.count
    rank, level = draw_orders(trajectory.sampling.seed, count, units, is_trained, schedule)
    if config.order == "recorded":
        step = traced.target.int().argmax(0)  # (C,): view n holds the n-th reveal of every block
        num_steps = _largest(step + 1, units, is_trained)
    else:
        step = rank // config.per_step  # (count, C)
        num_steps = (sizes_of(units, is_trained) / config.per_step).ceil()
    drawn = (level * num_steps).floor()  # (count, C), one number for all positions of a block
    target = is_trained & (step == drawn)
    hidden = ~is_trained | (step >= drawn)
    if traced.pinned is not None:
        hidden &= ~traced.pinned
    return replace(
        traced,
        hidden=hidden,
        target=target,
        weight=torch.ones(target.shape),
        # Each position was written once, so all views along the text have the same log-probabilities.
        behavior_logprobs=traced.behavior_logprobs[:1].expand(count, -1),
        old_logprobs=traced.behavior_logprobs[:1].expand(count, -1),
        estimate=Likelihood((target * num_steps).double(), torch.arange(count), is_trained),
    )


def _largest(values: Tensor, units: Tensor, is_trained: Tensor) -> Tensor:
    """Return the largest value `(C,)` of the trained positions in the unit of each position, at least 1."""
    found = torch.ones(int(units.max()) + 1, dtype=values.dtype)
    return found.scatter_reduce(0, units, values.masked_fill(~is_trained, 1), "amax")[units]
