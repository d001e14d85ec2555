"""Reductions: what a sum over targets is divided by, in SFT and in RL.

Every normalisation is a weight per view and one denominator, counted over the whole batch *before*
it is cut into packs, microbatches or ranks, so that 1, 2 or 8 microbatches give one gradient.

    tokens    every target counts the same
    sequence  every trajectory counts the same
    view      every view counts the same (published for full-attention models)
    constant  targets are summed, and divided by views x a constant length (published for block
              models)

A loss of whole responses has a number per trained position, and no average over views.

Views without targets, and trajectories without any, are left out of the averages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.types import PositionReduction, Reduction


def reduction_weights(
    counts: Sequence[Tensor],
    reduction: Reduction,
    length: int,
) -> tuple[list[Tensor], float]:
    """Return what each view's targets weigh, and what the weighted sum is divided by.

    Args:
        counts: one `(N,)` tensor per trajectory: targets of each of its views, each times its own weight.
        reduction: see above.
        length: the constant length of `constant`.

    Returns:
        One `(N,)` fp64 tensor of weights per trajectory, and the denominator.
    """
    num_views = sum(int((views > 0).sum()) for views in counts)
    match reduction:
        case "tokens":
            return [_ones(v) for v in counts], float(sum(float(v.sum()) for v in counts))
        case "sequence":
            weights = [_ones(v) / max(float(v.sum()), 1) for v in counts]
            return weights, float(sum(bool(v.any()) for v in counts))
        case "view":
            return [1 / v.double().clamp(min=1) for v in counts], float(num_views)
        case "constant":
            return [_ones(v) for v in counts], float(num_views * length)


def _ones(views: Tensor) -> Tensor:
    # fp64: 1/3 in fp32 would be the least exact number of a loss.
    return torch.ones(len(views), dtype=torch.float64)


def position_weights(
    lengths: Sequence[int], reduction: PositionReduction, length: int
) -> list[float]:
    """Return what a trained position of each trajectory weighs; the weighted sum needs no denominator.

    Args:
        lengths: trained positions of each trajectory.
        reduction: see above.
        length: the constant length of `constant`.
    """
    match reduction:
        case "tokens":
            return [1 / sum(lengths)] * len(lengths)
        case "sequence":
            return [1 / (len(lengths) * own) for own in lengths]
        case "constant":
            return [1 / (len(lengths) * length)] * len(lengths)
