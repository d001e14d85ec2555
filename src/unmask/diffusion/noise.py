"""Noise levels: the probability with which each position is hidden, drawn without a trajectory.

Masked diffusion hides each token with probability t, `t ~ U(low, high)`. The `level` of a schedule is
the unit that shares one t: by default a *block*, because the sampler denoises one block at a time;
`response` is LLaDA's choice (arXiv 2502.09992); with `token`, as in the published block SFT, every
position is an independent coin.

The `spread` of a schedule relates the levels of the `N` views of one unit, with u ~ U(0, 1):

    independent  t_n = u_n
    cyclic       t_n = (u + n / N) mod 1          each uniform, together one in every N-th of the range
    rising       t_n = u + (1 - u) n / (N - 1)    from u up to the highest (UniGRPO, arXiv 2505.15809)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unmask.diffusion.keyed_random import NOISE, NOISE_LEVEL, uniform


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """Noise levels t ~ U(low, high), one per `level` of each view."""

    low: float
    high: float
    level: Literal["response", "block", "token"] = "block"
    spread: Literal["independent", "cyclic", "rising"] = "independent"


def draw_noise(
    seed: int | Tensor, num_views: int, blocks: Tensor, schedule: NoiseSchedule
) -> tuple[Tensor, Tensor]:
    """Draw a noise level for every position of each view, and a uniform number to compare with it.

    Args:
        seed: key of the draws; the same seed gives the same draws, whatever else is drawn in the call.
            `(...)`: one for each of several responses.
        num_views: `N`.
        blocks: `(..., C)` the block of each position.
        schedule: noise levels.

    Returns:
        `drawn` and `level`, both `(..., N, C)` fp64; a position is hidden where `drawn < level`.
    """
    key = torch.as_tensor(seed, device=blocks.device)[..., None, None]
    view = torch.arange(num_views, device=blocks.device)[:, None]
    position = torch.arange(blocks.shape[-1], device=blocks.device)
    match schedule.level:
        case "response":
            unit = torch.zeros_like(position)
        case "block":
            unit = blocks[..., None, :]
        case "token":
            unit = position
    is_shared = schedule.spread != "independent"
    share = uniform(key, unit, torch.zeros_like(view) if is_shared else view, NOISE_LEVEL)
    match schedule.spread:
        case "independent":
            pass
        case "cyclic":
            share = (share + view / num_views) % 1
        case "rising":
            share = share + (1 - share) * view / max(num_views - 1, 1)
    level = share * (schedule.high - schedule.low) + schedule.low
    drawn = uniform(key, position, view, NOISE)
    return drawn, level.expand_as(drawn)


def elbo_weights(level: Tensor) -> Tensor:
    """Return 1/t, with which the loss bounds -log p (arXiv 2503.09573, equation 8, linear schedule).

    Args:
        level: `(N, C)` noise levels; 0 where a position is never hidden, which weighs 0.
    """
    return torch.where(level > 0, 1 / level, 0.0).float()
