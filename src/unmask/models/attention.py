"""The attention mask of packed documents (`sees`) and its dense implementations.

Attention is an argument of the model: `attend(layer, q, k, v)` with `q (T, H, E)` and
`k, v (T, Hk, E)`, already normed and rotated, returns `(T, H, E)`. An attend is a frozen record of
tensors that is *planned* once per pack or tick and only *run* inside the model. Training plans one
from a pack's structure, the dense reference from an explicit mask, the engine from its cache
(`engine/attention.py`); the model's code is the same for all.

The structure of a packed token is four integers, stacked `(4, T)`: its document, its block on the
grid of that document, its copy (0 is the clean copy, every noisy copy of a block has its own
number), and its prefix: the document whose clean blocks it shares (-1 for none), so that the prompt
of a group is laid out once.

On CPU the last bits of a row depend on the number of rows (on whether they fill a tile of a matrix
product) and on how many keys a sum runs over. The engine must reproduce the reference sampler's bits
(`tests/invariants/test_law_1_engine_is_the_reference.py`), so both pad rows to whole tiles
(`models/row_tile.py`) and queries to multiples of `QUERY_TILE`, and sum keys in chunks of `KEY_CHUNK`, one
after the other: a masked chunk adds an exact zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.models.heads import widen

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]

ROW_TILE = 8  # the smallest tile of rows
QUERY_TILE = 4
KEY_TILE = 32  # what training pads keys to
KEY_CHUNK = 64  # keys of one sum, and tokens of a page of the engine's cache


def round_up(count: int, tile: int) -> int:
    """Return the smallest multiple of `tile` that is at least `count`."""
    return -(-count // tile) * tile


def sees(query: Tensor | Sequence[Tensor], key: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the mask of the keys that each query may attend to.

    A clean token of block j sees the clean blocks up to j of its document and of its prefix; a
    token of a noisy copy of block j sees the clean blocks before j, and its own copy.

    Args:
        query: `(4, ...)` structure of the queries.
        key: `(4, ...)` structure of the keys; broadcasts against `query`.

    Returns:
        bool, the broadcast shape without the leading 4.
    """
    q_document, q_block, q_copy, q_prefix = query
    k_document, k_block, k_copy, _ = key
    same_document = k_document == q_document
    is_clean = (k_copy == 0) & (same_document | (k_document == q_prefix))
    is_own_copy = same_document & (k_copy == q_copy)
    return (is_clean & (k_block < q_block)) | (is_own_copy & (k_block == q_block))


def gather_rows(packed: Tensor, index: Tensor) -> Tensor:
    """Return rows `index (B, L)` of a packed `(T, ...)` tensor: `(B, L, ...)`."""
    return packed.index_select(0, index.flatten()).unflatten(0, index.shape)


def attend_chunks(q: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """Softmax attention, each row's bits its own.

    A key's score does not depend on the other keys; the weighted values are summed in chunks.

    Args:
        q: `(B * Hk, r * Lq, E)`, `Lq` a multiple of `QUERY_TILE`: the `r` heads that share keys are rows
            of one product.
        keys: `(B * Hk, Lk, E)`, `Lk` a multiple of `KEY_CHUNK`.
        values: the same.
        hidden: `(B, 1, Lq, n)` bool, True where a query does not attend to one of the last `n` keys;
            earlier keys are attended to. A row without any key gives NaN.

    Returns:
        `(B * Hk, r * Lq, E)`.
    """
    batch, _, length, num_last = hidden.shape
    num_keys = keys.shape[1]
    scores = torch.bmm(widen(q) * q.shape[-1] ** -0.5, widen(keys).transpose(1, 2))
    by_row = scores.view(batch, -1, length, num_keys)
    by_row[..., num_keys - num_last :].masked_fill_(hidden, -torch.inf)
    chunks = scores.softmax(-1).split(KEY_CHUNK, -1)
    first, *others = zip(chunks, widen(values).split(KEY_CHUNK, 1), strict=True)
    mixed = torch.bmm(*first)
    for weights, value in others:
        mixed.baddbmm_(weights, value)
    return mixed.to(q.dtype)


@dataclass(frozen=True, slots=True)
class ChunkedAttend:
    """Attention in rows of equal length, keys in chunks: the same bits as the engine's.

    Attributes:
        queries: `(B, Lq)` packed index of the queries.
        keys: `(B, Lk)` packed index of the keys, whole chunks.
        hidden: `(B, 1, Lq, Lk)` bool, True where a query does not attend to a key; every query attends
            to at least one.
        place: `(T,)` index of each packed token in `queries`.
    """

    queries: Tensor
    keys: Tensor
    hidden: Tensor
    place: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within rows; `layer` is unused, because nothing is cached."""
        # (B, Lk, Hk, E) -> (B * Hk, Lk, E)
        keys, values = (gather_rows(x, self.keys).transpose(1, 2).flatten(0, 1) for x in (k, v))
        queries = gather_rows(q, self.queries).transpose(1, 2)  # (B, H, Lq, E)
        # Query heads that share a key head are neighbours: (B, H, Lq, E) -> (B * Hk, H / Hk * Lq, E)
        folded = queries.reshape(len(keys), -1, q.shape[-1])
        mixed = attend_chunks(folded, keys, values, self.hidden).view(queries.shape)
        return mixed.transpose(1, 2).flatten(0, 1).index_select(0, self.place)


def plan_rows(allowed: Tensor, num_rows: int) -> ChunkedAttend:
    """Plan attention for `B` sequences of `L` tokens laid one after the other.

    Args:
        allowed: `(B, L, L)` bool; a query without any key attends to itself, so that its output is
            finite.
        num_rows: packed tokens, at least `B * L`; the rest is padding.
    """
    batch, length, _ = allowed.shape
    device = allowed.device
    nothing = ~allowed.any(-1, keepdim=True)
    allowed = allowed | (nothing & torch.eye(length, dtype=torch.bool, device=device))
    index = torch.arange(batch * length, device=device).view(batch, length)
    more_queries = round_up(length, QUERY_TILE) - length
    more_keys = (0, round_up(length, KEY_CHUNK) - length)
    # The last query again up to a whole tile.
    repeated = torch.arange(length + more_queries, device=device).clamp(max=length - 1)
    place = torch.arange(num_rows, device=device)
    row, column = place // length, place % length
    return ChunkedAttend(
        queries=index[:, repeated],
        keys=F.pad(index, more_keys),
        hidden=~F.pad(allowed[:, repeated], more_keys)[:, None],
        # Into the padded (B, Lq); rows of padding read query 0.
        place=(row * len(repeated) + column).where(row < batch, 0),
    )
