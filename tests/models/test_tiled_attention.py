"""A plan equals its dense mask for every pack and every cut into tiles."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.models.heads import random_heads
from tests.models.structures import Token, allowed_pairs, packs
from unmask.models import tiled_attention
from unmask.models.attention import KEY_TILE
from unmask.models.tiled_attention import plan_documents, plan_tiles


def dense_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """Softmax attention `(T, H, E)` under `allowed (T, T)`, one query head at a time."""
    repeats = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // repeats].T / q.shape[-1] ** 0.5
        heads.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v[:, head // repeats])
    return torch.stack(heads, 1)


@given(packs(), st.sampled_from([1, 3, tiled_attention.QUERY_ROWS]))
def test_a_planned_pack_is_its_dense_mask(pack: list[Token], query_rows: int) -> None:
    structure = torch.tensor(pack).T.contiguous()
    allowed = allowed_pairs(pack)
    q, k, v = random_heads(len(pack), 4, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled_attention, "QUERY_ROWS", query_rows)
        plan = plan_tiles(structure)
    assert all(mask.shape[-1] % KEY_TILE == 0 for mask in plan.masks)
    assert all(mask.sum(-1).min() >= 1 for mask in plan.masks)
    torch.testing.assert_close(plan(0, q, k, v), dense_attention(q, k, v, allowed))


def test_a_prefix_laid_out_once_is_a_prefix_repeated() -> None:
    """Two documents on one prompt have the outputs of two documents with a prompt each."""
    prompt = [(0, 0, 0, -1)] * 2 + [(0, 1, 0, -1)] * 2
    shared = prompt + [(d, 2, copy, 0) for d in (1, 2) for copy in (0, 0, 1, 1)]
    own = [(d, block, 0, -1) for d in (0, 1) for block in (0, 0, 1, 1)]
    own = own[:4] + [(0, 2, c, -1) for c in (0, 0, 1, 1)] + own[4:]
    own += [(1, 2, c, -1) for c in (0, 0, 1, 1)]
    q, k, v = random_heads(12, 2, 2)
    repeated = torch.tensor([*range(8), *range(4), *range(8, 12)])
    together = plan_documents(torch.tensor(shared).T)(0, q, k, v)
    apart = plan_documents(torch.tensor(own).T)(0, q[repeated], k[repeated], v[repeated])
    torch.testing.assert_close(together[4:8], apart[4:8])
    torch.testing.assert_close(together[8:], apart[12:])


def test_long_documents_do_not_gather_keys_without_a_query() -> None:
    """One clean copy of 100 blocks and a noisy copy of each: the dense mask would be 800 x 800."""
    clean = [(0, block, 0, -1) for block in range(100) for _ in range(4)]
    noisy = [(0, block, block + 1, -1) for block in range(100) for _ in range(4)]
    plan = plan_tiles(torch.tensor(clean + noisy).T)
    assert sum(mask.numel() for mask in plan.masks) < 0.7 * 800**2
