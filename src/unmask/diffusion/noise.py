"""Noise for supervised training: which slots of a response are hidden, without any trajectory.

Masked diffusion hides each token with probability t. The default draws one t ~ U(low, high) per
noisy *block*, because a block is what the sampler denoises at a time; `per_token` draws one per
token, as the published block SFT does, which makes every slot an independent coin. With `elbo` a
hidden token weighs 1/t, so that the loss bounds the negative log-likelihood (arXiv 2503.09573,
equation 8, linear schedule).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.keyed_random import NOISE, NOISE_LEVEL, uniform


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """Noise levels t ~ U(low, high), one per noisy block or one per token, and the weight of a hidden token."""

    low: float
    high: float
    is_per_token: bool
    is_elbo: bool


def draw_noise(
    seed: int | Tensor, num_views: int, blocks: Tensor, schedule: NoiseSchedule
) -> tuple[Tensor, Tensor]:
    """Draw which slots each noisy view hides, and what a hidden slot weighs.

    Args:
        seed: key of the draws; the same seed hides the same slots, whatever is drawn beside it.
            `(...)`: one for each of several responses.
        num_views: `N`.
        blocks: `(..., C)` the block of each slot.
        schedule: noise levels and weights.

    Returns:
        `hidden (..., N, C)` bool and `weight (..., N, C)`.
    """
    key = torch.as_tensor(seed, device=blocks.device)[..., None, None]
    blocks = blocks[..., None, :]
    view = torch.arange(num_views, device=blocks.device)[:, None]
    slot = torch.arange(blocks.shape[-1], device=blocks.device)
    unit = slot if schedule.is_per_token else blocks
    level = uniform(key, unit, view, NOISE_LEVEL) * (schedule.high - schedule.low) + schedule.low
    hidden = uniform(key, slot, view, NOISE) < level
    return hidden, (1 / level if schedule.is_elbo else torch.ones_like(level)).float()
