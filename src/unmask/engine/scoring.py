"""Scores of a pack's targets: one function for the learner, a reference policy and evaluation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.layout import Pack
from unmask.diffusion.target_table import TargetTable
from unmask.diffusion.views import Views
from unmask.engine.attention import Shapes
from unmask.engine.pack_attention import plan_pages
from unmask.models.attention import round_up
from unmask.models.heads import MostLikely, Targets
from unmask.models.placement import as_current
from unmask.models.row_tile import products, row_tile
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import image_features


def score_pack(model: Any, pack: Pack, count: int = 0) -> Any:
    """Return a model's predictions of a pack's `S` targets: `Scores`, values `(S,)`, or both.

    Args:
        model: a `Model`, `ValueModel` or `ActorCritic`.
        pack: on the model's device.
        count: of a `Model`: return in their place the `Top` of so many most probable tokens of each row.
    """
    targets = Targets(pack.targets, pack.temperatures, pack.factors)
    if model.is_batch_invariant:
        # Whole tiles of rows, as in the engine: on CPU the last bits of `exp` and `cos` depend on the place.
        pack = pack.filled(round_up(len(pack.tokens), row_tile(products(model))))
        attend = plan_pages(pack.structure, pack.positions, Shapes.of(model))
    else:
        attend = plan_documents(pack.structure)
    with as_current(model.device):
        return model(
            pack.tokens,
            pack.positions,
            attend,
            pack.rows,
            MostLikely(targets, count) if count else targets,
            image_features(model.backbone.vision, pack.images),
        )


@torch.no_grad()
def score_views(
    model: Any,
    views: Sequence[Views],
    packs: Iterable[Pack],
    columns: Sequence[Callable[[Any], Tensor]],
) -> list[list[Tensor]]:
    """Return numbers for every target of every trajectory, `(N, C)` each and 0 elsewhere.

    Args:
        model: as in `score_pack`.
        views: of the trajectories.
        packs: all of them, laid out, on the model's device.
        columns: each turns the scores of a pack into one number `(S,)` per target.

    Returns:
        For each column its tables, trajectory by trajectory.
    """
    zeros = [torch.zeros(v.target.shape, dtype=torch.float64) for v in views]
    tables = [TargetTable(zeros) for _ in columns]
    for pack in packs:
        scores = score_pack(model, pack)
        for table, column in zip(tables, columns, strict=True):
            table.write(pack.origin, column(scores))
    return [table.tables() for table in tables]
