"""Random views of rollouts: a written response under fresh random masks, not along its trajectory.

Random-masking RL and coupled RL are those of dLLM-RL. Its `coupled` is not the coupled objective of
DiffuCoder (arXiv 2506.20639), which makes one log-probability, and so one ratio, of a token's passes:
here every view has a ratio of its own, and no weight depends on t.

A mask hides each token of the response with probability t (`diffusion/noise.py`). Published are one t
per view under full attention and one per token for block models. The hidden tokens are the targets.

    random   one view per mask
    coupled  two views per mask: the mask, and its complement in the response. Each token is a target
             exactly once per pair, so `num_masks` times in all.

Both kinds of attention follow one rule right of the response: those positions are hidden in every view
and never targets, except the first `post_num`, which are masked like the response. Published for full
attention; under blocks the trajectory has no answer either (what stood there depends on the denoising
step, and a random view has none), and it is how SFT pads. A position the sampler never revealed stays
hidden as well.

A mask that hides nothing would be a view without a target: it hides the one position that came nearest
instead, so there are as many views as were asked for. An empty complement (a response of one token) is
left out.

The sampler never saw these views, so its log-probabilities do not belong to them: the learner scores
the old policy under the same masks. Draws are keyed by the trajectory's own seed, which stands for
(seed, step, prompt, sample).
"""

from dataclasses import replace

import torch
from torch import Tensor

from unmask.diffusion.noise import NoiseSchedule, draw_noise
from unmask.diffusion.views import Views


def masked_views(
    traced: Views,
    seed: int,
    num_masks: int,
    schedule: NoiseSchedule,
    is_coupled: bool,
    is_full: bool = False,
) -> Views:
    """Return random views of the response that a trajectory's views are of.

    Args:
        traced: its views along the trajectory, unmerged: what is a target there is what is trained.
        seed: key of the draws; `trajectory.sampling.seed`.
        num_masks: masks drawn.
        schedule: how likely a token is hidden; every target weighs one.
        is_coupled: whether the complement of every mask is a view too.
        is_full: whether the model's attention is full.

    Returns:
        `num_masks` views, or up to twice as many: masks first, each followed by its complement.
    """
    is_trained = traced.target.any(0)  # (C,)
    # Blocks lie on the grid from position 0, so the prompt's tail belongs to the first one.
    offset = 0 if is_full else traced.prompt_ids.shape[0] % traced.block
    blocks = (offset + torch.arange(is_trained.shape[0])) // traced.block
    target, level = draw_masks(seed, num_masks, blocks, is_trained, schedule)
    if is_coupled:
        # (masks, 2, C) -> (2 masks, C); the complement is hidden with probability 1 - t.
        target = torch.stack((target, is_trained & ~target), 1).flatten(0, 1)
        level = torch.stack((level, 1 - level), 1).flatten(0, 1)
        has_target = target.any(-1)
        target, level = target[has_target], level[has_target]
    return replace(
        traced,
        hidden=target | ~is_trained,
        target=target,
        weight=torch.ones(target.shape),
        old_logprobs=traced.behavior_logprobs.expand(len(target), -1),
        noise_level=level,
    )


def draw_masks(
    seed: int, num_masks: int, blocks: Tensor, is_trained: Tensor, schedule: NoiseSchedule
) -> tuple[Tensor, Tensor]:
    """Draw which of the trained positions each mask hides: at least one.

    Args:
        seed: key of the draws.
        num_masks: masks drawn.
        blocks: `(C,)` the block of each position.
        is_trained: `(C,)` bool, the positions that may be hidden; at least one.
        schedule: noise levels.

    Returns:
        `hidden` bool and the noise `level`, both `(num_masks, C)`.
    """
    drawn, level = draw_noise(seed, num_masks, blocks, schedule)
    # Below zero a position is hidden; the smallest distance came nearest to being hidden.
    distance = (drawn - level).masked_fill(~is_trained, torch.inf)
    is_nearest = torch.arange(blocks.shape[0]) == distance.argmin(-1, keepdim=True)
    hides_nothing = ~(distance < 0).any(-1, keepdim=True)
    return (distance < 0) | (is_nearest & hides_nothing), level
