"""Masks that hide an exact number of a response's tokens, in place of a coin for each of them.

Of `n` tokens `k` are hidden, every set of `k` with the same probability. With `k` uniform on 1, ..., n the sum
over the hidden tokens, weighed by n / k, is unbiased for the same ELBO as coins with a uniform noise level and
weights 1/t, without the binomial spread of the number of hidden tokens (LLaDA, arXiv 2502.09992).
"""

import torch
from torch import Tensor

from unmask.diffusion.noise import NoiseSchedule, draw_noise


def draw_orders(
    seed: int,
    num_masks: int,
    units: Tensor,
    is_trained: Tensor,
    schedule: NoiseSchedule,
) -> tuple[Tensor, Tensor]:
    """Draw an order of the trained positions of every unit, for each mask, and a noise level.

    Args:
        seed: key of the draws.
        num_masks: `N`.
        units: `(C,)` ascending, such as the block of each position.
        is_trained: `(C,)` bool.
        schedule: noise levels; one per unit if its `level` is `block`.

    Returns:
        The rank of each position among the trained ones of its unit, and its level, `(N, C)` each; ranks of
        other positions are higher.
    """
    drawn, level = draw_noise(seed, num_masks, units, schedule)
    key = 2 * units + torch.where(is_trained, drawn, 1.0)  # (N, C), ascending by unit
    order = key.argsort(dim=-1, stable=True)
    places = torch.arange(len(units)).expand_as(order)
    rank = torch.empty_like(order).scatter(1, order, places)  # from sorted order back to positions
    return rank - torch.searchsorted(units, units), level  # less the first position of the unit


def sizes_of(units: Tensor, is_trained: Tensor) -> Tensor:
    """Return the number `(C,)` of trained positions in the unit of each position, at least 1."""
    return torch.bincount(units, is_trained.double())[units].clamp(min=1)
