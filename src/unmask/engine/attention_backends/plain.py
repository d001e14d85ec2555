"""Attention over the pages in plain PyTorch: it runs anywhere, and gives the reference sampler's bits on CPU."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from unmask.engine.attention import Backend, Planner, written_places
from unmask.engine.batch_plan import Rows
from unmask.engine.pages import SCRAP
from unmask.models.attention import KEY_CHUNK, QUERY_TILE, attend_chunks, gather_rows, round_up
from unmask.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Sequences that feed about as many rows and read about as many pages.

    Attributes:
        queries: `(B * Hk, r * Lq)` indices of their heads into `q` viewed as `(T * H, E)`, the `r = H / Hk`
            heads that share keys together; short sequences repeat their last row.
        pages: `(B * Hk, pages)` indices of the pages they read, in order, into the layer's keys viewed as
            `(M * Hk, W, E)`.
        hidden: `(B, 1, Lq, n)` bool, which of the last `n` keys are at or past each row's limit.
    """

    queries: Tensor
    pages: Tensor
    hidden: Tensor


@dataclass(frozen=True, slots=True)
class PlainAttend:
    """Attention of one tick over the pages, in groups of similar sequences.

    Attributes:
        keys: `(layers, M, Hk, W, E)`, written in place.
        values: the same.
        written: `(T * Hk,)` indices that each row's heads write to, into the layer's keys viewed as
            `(M * Hk * W, E)`.
        groups: the sequences.
        place: `(T * H,)` index of each row's heads in the concatenated outputs of the groups; 0 for
            padding.
    """

    keys: Tensor
    values: Tensor
    written: Tensor
    groups: tuple[RowGroup, ...]
    place: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k, v (T, Hk, E)` to the pages of `layer`, then let `q (T, H, E)` attend."""
        keys, values = self.keys[layer], self.values[layer]
        width = k.shape[-1]
        keys.view(-1, width).index_copy_(0, self.written, k.reshape(-1, width))
        values.view(-1, width).index_copy_(0, self.written, v.reshape(-1, width))
        heads = q.reshape(-1, width)
        outputs = [
            attend_chunks(
                gather_rows(heads, group.queries),
                _read(keys, group.pages),
                _read(values, group.pages),
                group.hidden,
            ).flatten(0, 1)
            for group in self.groups
        ]
        # Padding rows read index 0, which no real row uses.
        return torch.cat((heads[:1], *outputs)).index_select(0, self.place).view(q.shape)


def _read(cache: Tensor, pages: Tensor) -> Tensor:
    """Return `(B * Hk, pages * W, E)` of one layer's pages `(M, Hk, W, E)`, in one gather."""
    return gather_rows(cache.flatten(0, 1), pages).flatten(1, 2)


def plan_plain(
    rows: Rows, table: Tensor, keys: Tensor, values: Tensor, num_heads: int
) -> PlainAttend:
    """Return a tick's attention in plain PyTorch.

    Args:
        rows: the rows that are fed.
        table: `(n, pages)` page table.
        keys: `(layers, M, Hk, W, E)`.
        values: the same.
        num_heads: `H`, of the queries.
    """
    num_kv_heads = keys.shape[2]
    groups, place = plan_groups(rows, table, num_heads, num_kv_heads)
    written = written_places(rows, table, KEY_CHUNK)[:, None]
    head = torch.arange(num_kv_heads, device=table.device)
    page, offset = written // KEY_CHUNK, written % KEY_CHUNK
    written = (page * num_kv_heads + head) * KEY_CHUNK + offset  # (T, Hk)
    return PlainAttend(keys, values, written.flatten(), groups, place)


def plan_groups(
    rows: Rows, table: Tensor, num_heads: int, num_kv_heads: int
) -> tuple[tuple[RowGroup, ...], Tensor]:
    """Return groups of sequences of similar size, and `(T * H,)` the place of each row's heads in their outputs.

    Without groups, one sequence's long prompt would pad the few rows of all others to its length.
    """
    device = table.device
    head, kv_head = (torch.arange(n, device=device)[:, None] for n in (num_heads, num_kv_heads))
    place = torch.zeros(len(rows.sequence), num_heads, dtype=torch.int64, device=device)
    fed = (rows.counts > 0).nonzero()[:, 0]
    counts = rows.counts[fed]
    last = rows.starts[fed] + counts - 1
    # Limits are non-decreasing within a sequence, so its last row sees the most.
    pages = _coarse((rows.limit[last] + KEY_CHUNK - 1) // KEY_CHUNK, table.shape[1])
    size = torch.exp2(counts.double().log2().ceil()).long().clamp(min=QUERY_TILE)
    # One integer for (rows, pages): a sequence has at most `table.shape[1]` pages.
    kind = size * (table.shape[1] + 1) + pages
    groups: list[RowGroup] = []
    offset = 1  # index 0 of the outputs is for padding
    for value in kind.unique().tolist():
        members = fed[kind == value]
        width, length = value // (table.shape[1] + 1), value % (table.shape[1] + 1)
        width = min(width, round_up(int(rows.counts[members].max()), QUERY_TILE))
        column = torch.arange(width, device=device)
        own = rows.counts[members]
        queries = rows.starts[members, None] + torch.minimum(column, own[:, None] - 1)
        limit = rows.limit[queries]
        all_see = int(limit.min()) // KEY_CHUNK * KEY_CHUNK
        hidden = torch.arange(all_see, length * KEY_CHUNK, device=device) >= limit[..., None]
        pages_of = table[members, :length]
        # Past its last page a sequence reads its first page, masked: the scrap page may hold NaN.
        pages_of = torch.where(pages_of == SCRAP, pages_of[:, :1], pages_of)
        heads = queries[:, None] * num_heads + head  # (B, H, Lq)
        kv_heads = pages_of[:, None] * num_kv_heads + kv_head  # (B, Hk, pages)
        folded = heads.view(len(members) * num_kv_heads, -1)  # (B * Hk, r * Lq)
        groups.append(RowGroup(folded, kv_heads.flatten(0, 1), hidden[:, None]))
        is_own = column < own[:, None]
        flat = offset + torch.arange(heads.numel(), device=device).view(heads.shape)
        place[queries[is_own]] = flat.transpose(1, 2)[is_own]
        offset += heads.numel()
    return tuple(groups), place.flatten()


def _coarse(pages: Tensor, most: int) -> Tensor:
    """Round page counts up by at most about a quarter, so that there are few groups."""
    octave = torch.exp2((pages.double().log2().floor() - 2).clamp(min=0)).long()
    return (torch.div(pages + octave - 1, octave, rounding_mode="floor") * octave).clamp(max=most)


def _build(spec: ModelSpec) -> Planner:
    return partial(plan_plain, num_heads=spec.num_heads)


# The groups of a tick, and how long they are, follow from what it feeds: the host waits for that.
BACKEND = Backend(lambda shapes: "", _build, is_static=False)
