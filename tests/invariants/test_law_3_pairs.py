"""Law 3 for preference pairs: loss and gradient are those of plain loops, however answers are packed (law 4)."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import TOYS, model_of
from tests.invariants.test_law_3_objectives_view_by_view import assert_same, tables_near
from tests.invariants.test_law_3_packed_layout_is_view_by_view import dense_logits
from tests.objectives.methods.plain import Term, total
from tests.objectives.methods.test_dpo import plain_dpo
from unmask.configs.dpo import DPOConfig
from unmask.data.demonstrations import Demonstration
from unmask.data.pairs import Pair
from unmask.diffusion.layout import pack_views
from unmask.diffusion.target_table import tables_of
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.objectives.methods.dpo import loss
from unmask.trainers.losses import linear_objective
from unmask.trainers.pair_views import pair_views
from unmask.trainers.reference import Scorer
from unmask.trainers.views_loss import linearise_pairs

VIEWS: dict[str, dict[str, Any]] = {
    "counted": {"kind": "counted", "count": 2, "spread": "cyclic"},
    "coupled": {"kind": "counted", "coupled": True},
    "random": {"kind": "random", "low": 0.001, "high": 1, "count": 3},
    "quadrature": {"kind": "quadrature", "points": 2},
    "trace": {"kind": "trace"},
    "steps": {"kind": "block_steps", "count": 2},
    "steps of two": {"kind": "block_steps", "per_step": 2, "count": 2},
    "recorded steps": {"kind": "block_steps", "order": "recorded", "count": 3},
}
# Responses of 1 to 13 tokens: some end a block, some do not.
LENGTHS = ((1, 9), (13, 3), (5, 10))


def config_of(views: dict[str, Any], **loss_keys: Any) -> DPOConfig:
    """Return the DPO config of a kind of views."""
    sections = {"model": {"path": "-"}, "pairs": {"path": "-"}, "views": views, "loss": loss_keys}
    return DPOConfig.model_validate(sections)


def toy_pairs() -> list[Pair]:
    """Return three pairs with recorded orders of writing."""
    rng = random.Random(5)

    def answer(prompt: tuple[int, ...], length: int) -> Demonstration:
        order = tuple(rng.randint(1, 3) for _ in range(length))
        return Demonstration(prompt, tuple(rng.randint(2, 19) for _ in range(length)), order)

    prompts = [tuple(range(3, 5 + n)) for n in range(len(LENGTHS))]
    return [
        Pair(answer(prompt, first), answer(prompt, second))
        for prompt, (first, second) in zip(prompts, LENGTHS, strict=True)
    ]


def terms_of_views(model: Model, views: Views, anchor: Tensor) -> list[Term]:
    """Return the targets of an answer from one dense forward per view; a draw may have none that counts."""
    terms, estimate = list[Term](), views.likelihood
    for v in range(len(views.target)):
        rows = dense_logits(model, views, v).masked_fill(~model.head.drawable, -torch.inf)
        logprobs = rows.log_softmax(-1)
        terms += [
            Term(
                int(estimate.draw[v]),
                v,
                s,
                float(estimate.weight[v, s]),
                logprobs[s, views.canvas_ids[s]],
                0.0,
                float(anchor[v, s]),
            )
            for s in views.target[v].nonzero()[:, 0].tolist()
        ]
    return terms


# Every other pair: each meets three kinds of model.
@pytest.mark.parametrize(
    ("name", "kind"),
    [(m, k) for i, m in enumerate(VIEWS) for j, k in enumerate(TOYS) if (i + j) % 2 == 0],
)
def test_loss_and_gradient_are_those_of_plain_loops(name: str, kind: str) -> None:
    model, config = model_of(kind, torch.float64), config_of(VIEWS[name], beta=0.3, sft=0.1)
    pairs = toy_pairs()
    views = pair_views(pairs, [(0, n) for n in range(len(pairs))], config, model.spec, 1)
    current = Scorer(model_of(kind, torch.float64), 8192).score(views)
    anchor = tables_near(current, 1)
    answers = [terms_of_views(model, v, a) for v, a in zip(views, anchor, strict=True)]
    losses = [
        plain_dpo(answers[2 * n], answers[2 * n + 1], lengths, config.loss)
        for n, lengths in enumerate(LENGTHS)
    ]
    tables = tables_of(linearise_pairs(views, (current, anchor), loss, config.loss).columns)

    def packed(budget: int) -> Tensor:
        found = torch.zeros((), dtype=torch.float64)
        for pack in pack_views(views, conventions_of(model), budget):
            found = found + linear_objective(score_pack(model, pack), pack, tables).loss.sum()
        return found

    assert len(pack_views(views, conventions_of(model), 64)) > 1
    assert_same(model, total(losses) / len(losses), packed)
