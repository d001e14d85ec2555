"""Law 3 for losses of whole responses: packed loss and gradient are those of plain loops, for every method."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import TOYS, model_of
from tests.invariants.test_law_3_objectives_view_by_view import (
    LENGTH,
    assert_same,
    batch_of,
    tables_near,
)
from tests.invariants.test_law_3_packed_layout_is_view_by_view import dense_logits
from tests.objectives.methods.plain import PLAIN, Term, reduced
from tests.trainers.toy_methods import OF_RESPONSES, row, shipped
from unmask.configs.methods import partner
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.target_table import tables_of
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.trainers.losses import linear_objective
from unmask.trainers.reference import Scorer
from unmask.trainers.views_loss import linearise

COUPLED = {"kind": "counted", "coupled": True, "count": 2}
KL = {"kl": 0.3, "kl_to": "reference"}
# Rows that no shipped method has: other views, reductions and estimators.
ROWS: dict[str, RLConfig] = {
    "trace": row(loss={"kind": "sequence_ratio", "kl_estimator": "k3", "reduction": "tokens"} | KL),
    "steps": row(
        {"kind": "steps", "count": 2}, {"kind": "sequence_ratio", "normalize": "none"} | KL
    ),
    "prompt": row(
        {"kind": "one_step", "prompt_noise": 0.5, "count": 2},
        {"kind": "token_ratio", "reduction": "constant", "kl_estimator": "k2"} | KL,
    ),
    "nodes": row({"kind": "quadrature", "points": 2, "count": 2}, {"kind": "boundary"}),
    "upper": row({"kind": "coupled", "low": 0.01, "high": 1}, {"kind": "sandwich", "mix": 1.0}),
    "pairs": row(COUPLED, {"kind": "gdsd", "psi": 0.1, "reduction": "constant"} | KL),
}
METHODS = {name: shipped(name) for name in OF_RESPONSES} | ROWS


def plain_loss(
    model: Model, batch: list[Views], old: list[Tensor], anchor: list[Tensor], config: Any
) -> Tensor:
    """Return the loss from one dense forward per view."""
    losses: list[Sequence[Tensor]] = []
    for t, views in enumerate(batch):
        terms: list[Term] = []
        estimate = views.likelihood
        for v in range(len(views.target)):
            rows = dense_logits(model, views, v) / views.temperature
            logprobs = rows.masked_fill(~model.head.drawable, -torch.inf).log_softmax(-1)
            terms += [
                Term(
                    int(estimate.draw[v]),
                    v,
                    s,
                    float(estimate.weight[v, s]),
                    logprobs[s, views.canvas_ids[s]],
                    float(old[t][v, s]),
                    float(anchor[t][v, s]),
                )
                # A token that is hidden only because no coin hid one has no part in the estimate.
                for s in (estimate.weight[v] > 0).nonzero()[:, 0].tolist()
            ]
        positions = estimate.trained.nonzero()[:, 0].tolist()
        advantage = float(views.advantages[0])
        losses.append(PLAIN[config.kind](terms, positions, advantage, config))
    return reduced(losses, config.reduction, LENGTH)


# Every other pair: each meets three kinds of model.
@pytest.mark.parametrize(
    ("method", "kind"),
    [(m, k) for i, m in enumerate(METHODS) for j, k in enumerate(TOYS) if (i + j) % 2 == 0],
)
def test_loss_and_gradient_are_those_of_plain_loops(method: str, kind: str) -> None:
    model, config = model_of(kind, torch.float64), METHODS[method]
    batch = batch_of(model, config, (1, 4, 6))
    current = Scorer(model_of(kind, torch.float64), 8192).score(batch)
    old, anchor = tables_near(current, 0), tables_near(current, 1)
    expected = plain_loss(model, batch, old, anchor, config.loss)
    loss = partner(config.loss, "unmask.objectives.methods").loss
    none: list[dict[str, Tensor]] = [{} for _ in batch]
    found = linearise(batch, none, (current, old, anchor), loss, config.loss, LENGTH)
    tables = tables_of(found.columns)

    def packed(budget: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for pack in pack_views(batch, conventions_of(model), budget):
            total = total + linear_objective(score_pack(model, pack), pack, tables).loss.sum()
        return total

    assert_same(model, expected, packed)
