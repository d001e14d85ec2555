"""The runner: running sequences to logits of the slots they have hidden, in one forward pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.engine.attention import CachedAttend, TickRows, plan_groups
from unmask.engine.pages import SCRAP, PagePool
from unmask.engine.slots import Slots, is_committing
from unmask.models.attention import ROW_TILE, round_up
from unmask.models.transformer import Model


class Runner:
    """The model and its cache."""

    def __init__(self, model: Model, pages: PagePool, fuses_commit: bool) -> None:
        """Keep the model, the cache and whether commits are fused."""
        self.model = model
        self.pages = pages
        self.fuses_commit = fuses_commit

    @torch.inference_mode()
    def forward(self, slots: Slots, hidden: Tensor) -> Tensor:
        """Return logits `(>= S, V)`, one row per hidden slot in the order of `hidden.nonzero()`, then padding."""
        rows = self.plan_rows(slots)
        num_rows = rows.position.shape[0]
        padding = (0, round_up(num_rows, ROW_TILE) - num_rows)
        tokens = slots.tokens[rows.sequence, rows.position]
        logits = self.model(
            F.pad(tokens, padding),
            F.pad(rows.position, padding),
            self.plan_attention(rows, slots.page, padding),
            self.scored_rows(rows, slots, hidden),
        )
        assert isinstance(logits, Tensor)
        return logits

    def plan_rows(self, slots: Slots) -> TickRows:
        """Return the rows this tick feeds: from the first position not cached to the end of the current block."""
        end = slots.start + slots.block
        if not self.fuses_commit:
            end = torch.where(is_committing(slots), slots.start, end)
        counts = end - slots.cached
        starts = counts.cumsum(0) - counts
        sequence = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        within = torch.arange(sequence.shape[0], device=counts.device) - starts[sequence]
        position = slots.cached[sequence] + within
        block = slots.block[sequence]
        return TickRows(sequence, position, (position // block + 1) * block, counts, starts)

    def plan_attention(
        self, rows: TickRows, pages: Tensor, padding: tuple[int, int]
    ) -> CachedAttend:
        """Plan where the tick's rows write and what they see; padding rows write to the scrap page."""
        groups, place = plan_groups(rows, pages)
        written = pages[rows.sequence] * self.pages.width + rows.position
        return CachedAttend(
            keys=self.pages.keys,
            values=self.pages.values,
            written=F.pad(written, padding, value=SCRAP * self.pages.width),
            groups=groups,
            place=F.pad(place, padding),
        )

    def scored_rows(self, rows: TickRows, slots: Slots, hidden: Tensor) -> Tensor:
        """Return the packed rows of the hidden slots, padded to whole tiles by repeating row 0."""
        sequence, column = hidden.nonzero(as_tuple=True)
        scored = rows.starts[sequence] + (slots.start - slots.cached)[sequence] + column
        return F.pad(scored, (0, round_up(max(len(scored), 1), ROW_TILE) - len(scored)))
