"""Attention over the cache: every query row carries a page and a limit, and sees the keys at positions below it.

Prefill, denoising, commit and fused commit differ in nothing but limits. A tick writes the keys and
values of all its rows first and attends afterwards, so a block's rows see the block before them
even when both are fed at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.models.attention import QUERY_TILE, attend_rows, gather_rows, pad_keys


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Sequences that feed about as many rows.

    Attributes:
        pages: `(B,)` their pages.
        queries: `(B, Lq)` packed index of their rows; short ones repeat their last row.
        mask: `(B, 1, Lq, W)` bool, keys below each row's limit.
    """

    pages: Tensor
    queries: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class CachedAttend:
    """Attention of one tick over the cached keys and values.

    Attributes:
        keys: `(layers, M, W, Hk, E)`, written in place.
        values: the same.
        written: `(T,)` flat cache place (page times `W` plus position) of each row.
        groups: the sequences, by how many rows they feed.
        place: `(T,)` where each row stands in the groups' concatenated outputs.
    """

    keys: Tensor
    values: Tensor
    written: Tensor
    groups: tuple[RowGroup, ...]
    place: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k, v (T, Hk, E)` to the cache of `layer`, then let `q (T, H, E)` attend."""
        keys, values = self.keys[layer], self.values[layer]
        keys.flatten(0, 1).index_copy_(0, self.written, k)
        values.flatten(0, 1).index_copy_(0, self.written, v)
        outputs = [
            attend_rows(
                gather_rows(q, group.queries),
                keys[:, : group.mask.shape[-1]].index_select(0, group.pages),
                values[:, : group.mask.shape[-1]].index_select(0, group.pages),
                group.mask,
            ).flatten(0, 1)
            for group in self.groups
        ]
        return torch.cat(outputs).index_select(0, self.place)


@dataclass(frozen=True, slots=True)
class TickRows:
    """The rows of one tick, without padding.

    Attributes:
        sequence: `(T,)` index of the running sequence each row belongs to, ascending.
        position: `(T,)` its absolute position.
        limit: `(T,)` it sees keys at positions below this.
        counts: `(B,)` rows of each sequence.
        starts: `(B,)` first row of each sequence.
    """

    sequence: Tensor
    position: Tensor
    limit: Tensor
    counts: Tensor
    starts: Tensor


def plan_groups(rows: TickRows, pages: Tensor) -> tuple[tuple[RowGroup, ...], Tensor]:
    """Group the sequences by row count (to the next power of two), and place every row in the groups' outputs.

    Grouping keeps one sequence's long prefill from padding everybody else's four rows.
    """
    device = rows.counts.device
    place = torch.empty_like(rows.sequence)
    size = torch.exp2(rows.counts.double().log2().ceil()).long().clamp(min=QUERY_TILE)
    groups: list[RowGroup] = []
    offset = 0
    for width in size.unique().tolist():
        members = (size == width).nonzero()[:, 0]
        column = torch.arange(width, device=device)
        counts = rows.counts[members]
        queries = rows.starts[members, None] + torch.minimum(column, counts[:, None] - 1)
        limits = rows.limit[queries]
        num_keys = pad_keys(int(limits.max()))
        mask = torch.arange(num_keys, device=device) < limits[..., None]
        groups.append(RowGroup(pages[members], queries, mask[:, None]))
        is_own = column < counts[:, None]
        flat = offset + torch.arange(queries.numel(), device=device).view(queries.shape)
        place[queries[is_own]] = flat[is_own]
        offset += queries.numel()
    return tuple(groups), place
