"""Losses of whole responses, differentiated one pack at a time.

Such a loss is a function f of the log-probabilities l of all views of a response together: a ratio of two
estimates of its log-likelihood, say. Its views may be in different packs, on different ranks. The chain rule
makes a sum over targets of it, without an approximation:

    df/dtheta = sum over targets s of f_s(l) dl_s/dtheta,   f_s = df/dl_s

So each update scores its views once more, without gradients; `f_s` follows from the scores on the host, and
the learner minimises `sum_s f_s l_s` pack by pack, in the memory of one. (BGPO, arXiv 2510.11683, replaces f
by a bound for the sake of that memory; EBPO in DARE does as here.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.configs.methods import partner
from unmask.configs.methods.views_loss import ViewsLoss
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.reduce import position_weights
from unmask.objectives.statistics import Metric, StatisticSums
from unmask.trainers.learner import Learner

Columns = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Linearised:
    """A loss near the current weights: columns of each trajectory's targets, and its statistics.

    Attributes:
        columns: what they were, and `value` and `slope`, `(N, C)` each: shares of the loss, which sum to it,
            and its derivative by each target's log-probability.
        metrics: the statistics of the loss.
    """

    columns: list[Columns]
    metrics: dict[str, Metric]


Linearise = Callable[[Learner, Sequence[Views], Sequence[Columns]], Linearised]


def build_linearise(config: RLConfig) -> Linearise | None:
    """Return the first half of an update whose loss is one of whole responses; None for other losses."""
    if not isinstance(config.loss, ViewsLoss):
        return None
    loss = partner(config.loss, "unmask.objectives.methods").loss
    is_single, length = config.is_single_update, config.sampling.max_tokens

    def linearise_scored(
        learner: Learner, views: Sequence[Views], columns: Sequence[Columns]
    ) -> Linearised:
        current = learner.score(views)
        old = current if is_single else [v.old_logprobs for v in views]
        anchors = [c.get("reference", o) for c, o in zip(columns, old, strict=True)]
        return linearise(views, columns, (current, old, anchors), loss, config.loss, length)

    return linearise_scored


def linearise(
    views: Sequence[Views],
    columns: Sequence[Columns],
    scores: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]],
    loss: Callable[[ScoredViews, Any], LossOutput],
    config: Any,
    length: int,
) -> Linearised:
    """Return the loss of an update's responses, and its derivatives.

    Args:
        views: of the trajectories.
        columns: of their targets, kept as they are.
        scores: log-probabilities `(N, C)` of each trajectory: current, old, and of the anchor of a KL.
        loss: of the views of one trajectory.
        config: its section.
        length: the constant length of `reduction = "constant"`.
    """
    lengths = [int(v.likelihood.trained.sum()) for v in views]
    weights = position_weights(lengths, config.reduction, length)
    found, sums = list[Columns](), StatisticSums()
    for of_one, kept, weight, *tables in zip(views, columns, weights, *scores, strict=True):
        scored = _scored(of_one, *tables)
        output = loss(scored, config)
        total = weight * output.loss.sum()
        (slope,) = torch.autograd.grad(total, scored.logprobs)
        share = total.detach() / of_one.target.sum()
        found.append({**kept, "slope": slope, "value": share.expand(slope.shape)})
        sums.add(output.statistics, len(output.loss))
    return Linearised(found, sums.metrics())


def _scored(views: Views, current: Tensor, old: Tensor, anchor: Tensor) -> ScoredViews:
    estimate, is_target = views.likelihood, views.target
    own, old, anchor = (
        table.double().masked_fill(~is_target, 0.0) for table in (current, old, anchor)
    )
    return ScoredViews(
        logprobs=own.requires_grad_(),
        old_logprobs=old,
        reference_logprobs=anchor,
        weight=estimate.weight.masked_fill(~is_target, 0.0),
        draw=estimate.draw,
        trained=estimate.trained,
        advantage=views.advantages[0].double(),  # one for the whole response
    )
