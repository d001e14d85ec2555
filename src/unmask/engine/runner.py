"""The runner: one tick on the device, from the batch plan to the revealed tokens.

On CPU a pass has exactly the rows it needs. On CUDA the host chooses sizes from a few before the device has
reported, so nothing in a step waits for the device, and a step of one size can be captured once and
replayed (`engine/cuda_graphs.py`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.constrained import Constraint
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.unmask import scored_positions
from unmask.engine.attention import Planner
from unmask.engine.batch_plan import (
    Rows,
    Scored,
    lay_rows,
    lay_scored,
    plan_block,
    plan_feed,
)
from unmask.engine.image_table import ImageTable
from unmask.engine.options import EngineParams
from unmask.engine.pages import PagePool
from unmask.engine.sequence_state import SequenceState, advance, open_spans
from unmask.models.attention import round_up
from unmask.models.row_tile import products, row_tile
from unmask.models.transformer import Model


class Sizes(NamedTuple):
    """The shapes of a step.

    Attributes:
        width: positions of the widest block.
        num_rows: rows fed; `None` for as many as the plan has.
        num_scored: rows scored; `None` for as many as the plan has.
        narrowest: positions of the narrowest block.
    """

    width: int
    num_rows: int | None = None
    num_scored: int | None = None
    narrowest: int = 1


class Runner:
    """The model, its pages and its attention.

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
        images: ImageTable,
    ) -> None:
        """Store everything a step needs besides the state."""
        self.model = model
        self.row_tile = row_tile(products(model))
        self.pages = pages
        self.planner = planner
        self.params = params
        self.conventions = conventions
        self.images = images

    def step(
        self,
        state: SequenceState,
        sizes: Sizes,
        constraints: Mapping[int, Constraint] | None = None,
    ) -> None:
        """Take one forward pass and advance the state.

        With given sizes, and without constraints, nothing waits for the device.

        Args:
            state: the running sequences, changed in place.
            sizes: of the pass.
            constraints: by sequence index, where output is structured.
        """
        conventions = self.conventions
        feed = plan_feed(state, sizes.width, self.params, conventions)
        block, next_step = plan_block(state, feed, sizes.width, conventions)
        num_rows = sizes.num_rows or round_up(int(feed.counts.sum()), self.row_tile)
        blocks = sizes.narrowest, sizes.width
        rows = lay_rows(state, feed, num_rows, conventions.is_full, blocks)
        is_scored = scored_positions(block, state.sampling)
        num_scored = int(is_scored.sum()) if sizes.num_scored is None else sizes.num_scored
        scored = lay_scored(is_scored, num_scored, state, feed, rows, conventions.is_shifted)
        logits = self.forward(state, rows, scored.row)
        if state.sampling.needs.guides:
            logits = guided(logits, is_scored, scored, state)
        fed = feed.first + feed.counts  # end of what each sequence fed
        # Keys of the current block are noisy: the cache ends at its start.
        clean = torch.minimum(torch.maximum(state.cached, fed), state.start)
        state.set(
            forwards=state.forwards + (feed.counts > 0),
            cached=state.cached if conventions.is_full else clean,
            is_fresh=state.is_fresh & (fed <= state.start),
            step_in_block=next_step,
        )
        places = (scored.sequence, scored.column)
        if constraints:
            block = block._replace(spans=open_spans(state, block, constraints))
        advance(state, logits, block, feed.denoises, places, conventions)

    def forward(self, state: SequenceState, rows: Rows, scored: Tensor) -> Tensor:
        """Return logits `(>= S, V)` of the packed rows `scored (S,)`, then padding.

        Args:
            state: the running sequences.
            rows: a multiple of `row_tile`, padding included.
            scored: rows whose logits are computed.
        """
        tokens = state.tokens[rows.sequence, rows.position]
        attend = self.planner(rows, state.table, self.pages.keys, self.pages.values)
        padding = (0, round_up(max(len(scored), 1), self.row_tile) - len(scored))
        scored = F.pad(scored, padding)
        logits = self.model(tokens, rows.position, attend, scored, images=self.images.vectors)
        assert isinstance(logits, Tensor)
        return logits


def guided(logits: Tensor, is_scored: Tensor, scored: Scored, state: SequenceState) -> Tensor:
    """Return logits `(S, V)` with guidance: `u + (g + 1)(c - u)` where a sequence has a twin.

    Args:
        logits: `(>= S, V)`, one row per scored position, then padding.
        is_scored: `(n, K)` the scored positions, of a twin those of the sequence it guides.
        scored: their rows.
        state: the running sequences.
    """
    logits = logits[: len(scored.row)]
    guide = state.guide[scored.sequence]
    # The number of the twin's row: rows are in the order of (sequence, column).
    number = is_scored.flatten().cumsum(0) - 1
    column = scored.column.clamp(max=is_scored.shape[1] - 1)
    row = number[guide.clamp(min=0) * is_scored.shape[1] + column].clamp(min=0)
    without = logits[row]
    scale = (state.sampling.guidance[scored.sequence] + 1).to(logits.dtype)
    mixed = without + scale[:, None] * (logits - without)
    return torch.where((guide >= 0)[:, None], mixed, logits)
