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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unmask.configs.methods import partner
from unmask.configs.methods.views_loss import ViewsLoss
from unmask.configs.rl import RLConfig
from unmask.diffusion.target_table import tables_of
from unmask.diffusion.views import Views
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.reduce import position_weights
from unmask.objectives.statistics import Metric, Statistic, StatisticSums
from unmask.trainers.learner import Learner, Update

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
        (own,) = _shares(weight * output.loss.sum(), [scored], [of_one])
        found.append({**kept, **own})
        sums.add(output.statistics, len(output.loss))
    return Linearised(found, sums.metrics())


def linearise_pairs(
    views: Sequence[Views],
    scores: tuple[Sequence[Tensor], Sequence[Tensor]],
    loss: Callable[[ScoredViews, ScoredViews, Any], LossOutput],
    config: Any,
) -> Linearised:
    """Return the mean loss of an update's pairs, and its derivatives.

    Args:
        views: of the answers, the preferred one of each pair first.
        scores: log-probabilities `(N, C)` of each answer: current, and of the frozen reference.
        loss: of the views of two answers.
        config: its section.
    """
    found, sums = list[Columns](), StatisticSums()
    scored = [_scored(v, own, own, anchor) for v, own, anchor in zip(views, *scores, strict=True)]
    for start in range(0, len(views), 2):
        pair = slice(start, start + 2)
        output = loss(scored[start], scored[start + 1], config)
        found += _shares(output.loss.sum() / (len(views) // 2), scored[pair], views[pair])
        sums.add({**output.statistics, "loss": Statistic(output.loss)}, len(output.loss))
    return Linearised(found, sums.metrics())


def descend(
    learner: Learner, views: Sequence[Views], found: Linearised, objective: Any, rate: float
) -> Update:
    """Take the optimizer step of a linearised loss, whose weights and denominator are in its columns.

    Args:
        learner: of the weights that were scored.
        views: that were scored.
        found: their loss.
        objective: `linear_objective`, or one that adds to it; it is given the tables of the columns.
        rate: learning rate.
    """
    tables = tables_of(found.columns, learner.model.device)
    plain = [replace(v, weight=torch.ones(v.target.shape)) for v in views]
    update = learner.update(plain, partial(objective, tables=tables), 1.0, rate)
    return update._replace(metrics=update.metrics | found.metrics)


def _shares(
    total: Tensor, scored: Sequence[ScoredViews], views: Sequence[Views]
) -> list[dict[str, Tensor]]:
    """Return the columns of the responses that a loss is a function of: its derivatives and shares of its value."""
    slopes = torch.autograd.grad(total, [own.logprobs for own in scored])
    value = total.detach() / len(views)
    return [
        {"slope": slope, "value": (value / of_one.target.sum()).expand(slope.shape)}
        for slope, of_one in zip(slopes, views, strict=True)
    ]


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
