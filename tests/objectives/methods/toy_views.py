"""Scored views of made-up responses, and the same as terms of plain loops."""

import torch

from tests.objectives.methods.plain import Term
from unmask.objectives.loss import ScoredViews


def scored(advantage: float, seed: int = 0, change: float = 0.3) -> ScoredViews:
    """Return five views in three draws of a response of four tokens, on a canvas of six positions."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.tensor([0, 0, 1, 2, 2])
    trained = torch.tensor([1, 1, 1, 0, 1, 0], dtype=torch.bool)
    target = (torch.rand(5, 6, generator=generator) < 0.6) & trained
    target[:, 0] = True  # no view is empty
    own, old, anchor = (
        torch.where(target, -torch.rand(5, 6, generator=generator, dtype=torch.float64), 0.0)
        * scale
        for scale in (1.0, 1 + change, 1 + 2 * change)
    )
    weight = torch.where(
        target, 0.5 + torch.rand(5, 6, generator=generator, dtype=torch.float64), 0.0
    )
    number = torch.tensor(advantage, dtype=torch.float64)
    return ScoredViews(own.requires_grad_(), old, anchor, weight, draw, trained, number)


def terms_of(views: ScoredViews) -> list[Term]:
    """Return its targets."""
    return [
        Term(
            int(views.draw[v]),
            v,
            i,
            float(views.weight[v, i]),
            views.logprobs[v, i],
            float(views.old_logprobs[v, i]),
            float(views.reference_logprobs[v, i]),
        )
        for v, i in (views.weight > 0).nonzero().tolist()
    ]


def gradient(views: ScoredViews, loss: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss.sum(), views.logprobs)
    return found
