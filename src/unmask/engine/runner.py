"""The runner: one tick on the device, from what is fed to what is revealed.

On CPU a pass has exactly the rows it needs. On CUDA sizes are rounded up to a few, chosen by the host
before the device has said how much there is to do, so nothing in a step waits for an answer and a
step of one size can be captured once and replayed (`engine/cuda_graphs.py`).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.unmask import scored_slots
from unmask.engine.attention import Planner
from unmask.engine.batch_plan import Rows, lay_rows, lay_scored, plan_block, plan_feed
from unmask.engine.options import EngineParams
from unmask.engine.pages import PagePool
from unmask.engine.sequence_state import Slots, advance
from unmask.models.attention import round_up
from unmask.models.row_tile import products, row_tile
from unmask.models.transformer import Model


class Sizes(NamedTuple):
    """The shapes of a step.

    Attributes:
        width: slots of the widest block.
        num_rows: rows fed; `None` for as many as there are.
        num_scored: rows scored; `None` for as many as there are.
    """

    width: int
    num_rows: int | None = None
    num_scored: int | None = None


class Runner:
    """The model, its pages, and how they are run.

    Attributes:
        row_tile: a pass feeds and scores a multiple of this many rows.
    """

    def __init__(
        self,
        model: Model,
        pages: PagePool,
        planner: Planner,
        params: EngineParams,
        conventions: Conventions,
    ) -> None:
        """Keep what a step needs besides the state."""
        self.model = model
        self.row_tile = row_tile(products(model))
        self.pages = pages
        self.planner = planner
        self.params = params
        self.conventions = conventions

    def step(self, slots: Slots, sizes: Sizes) -> None:
        """Take one forward pass and move the state on; with sizes given, nothing waits for the device."""
        conventions = self.conventions
        feed = plan_feed(slots, sizes.width, self.params, conventions)
        block, next_step = plan_block(slots, feed, sizes.width, conventions)
        num_rows = sizes.num_rows or round_up(int(feed.counts.sum()), self.row_tile)
        rows = lay_rows(slots, feed, num_rows, conventions.is_full)
        is_scored = scored_slots(block, slots.rules)
        num_scored = int(is_scored.sum()) if sizes.num_scored is None else sizes.num_scored
        scored = lay_scored(is_scored, num_scored, slots, feed, rows, conventions.is_shifted)
        logits = self.forward(slots, rows, scored.row)
        fed = feed.first + feed.counts
        clean = torch.minimum(torch.maximum(slots.cached, fed), slots.start)
        slots.set(
            forwards=slots.forwards + (feed.counts > 0),
            cached=slots.cached if conventions.is_full else clean,
            is_fresh=slots.is_fresh & (fed <= slots.start),
            step_in_block=next_step,
        )
        advance(slots, logits, block, (scored.sequence, scored.column), conventions)

    def forward(self, slots: Slots, rows: Rows, scored: Tensor) -> Tensor:
        """Return logits `(>= S, V)` of the packed rows `scored (S,)`, then padding.

        Args:
            slots: whose tokens are fed.
            rows: a multiple of `row_tile`, padding included.
            scored: rows whose logits are wanted.
        """
        tokens = slots.tokens[rows.sequence, rows.position]
        attend = self.planner(rows, slots.table, self.pages.keys, self.pages.values)
        padding = (0, round_up(max(len(scored), 1), self.row_tile) - len(scored))
        logits = self.model(tokens, rows.position, attend, F.pad(scored, padding))
        assert isinstance(logits, Tensor)
        return logits
