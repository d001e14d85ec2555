"""A plan equals its dense mask for every pack and every cut into tiles, and holds nothing quadratic."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.diffusion.trajectories import CONVENTIONS
from tests.models.heads import random_heads
from tests.models.structures import Token, allowed_pairs, packs
from unmask.diffusion.layout import pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import views_of_responses
from unmask.models import tiled_attention
from unmask.models.attention import KEY_TILE, Attend
from unmask.models.tiled_attention import (
    Batch,
    CompactBatch,
    TiledAttend,
    plan_documents,
    plan_tiles,
)


def dense_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """Softmax attention `(T, H, E)` under `allowed (T, T)`, one query head at a time."""
    repeats = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // repeats].T / q.shape[-1] ** 0.5
        heads.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v[:, head // repeats])
    return torch.stack(heads, 1)


def with_gradients(mixed: Tensor, heads: tuple[Tensor, ...]) -> list[Tensor]:
    """Return an output and the gradients of a weighted sum of it."""
    slope = torch.linspace(-1, 1, mixed.numel(), dtype=mixed.dtype).view(mixed.shape)
    return [mixed.detach(), *torch.autograd.grad(mixed, heads, slope)]


@given(
    packs(),
    st.sampled_from([1, 3, tiled_attention.QUERY_ROWS]),
    st.sampled_from([1, 100, tiled_attention.BATCH_PAIRS]),
    st.booleans(),
)
def test_a_planned_pack_is_its_dense_mask(
    pack: list[Token], query_rows: int, batch_pairs: int, is_kept: bool
) -> None:
    structure = torch.tensor(pack).T.contiguous()
    heads = tuple(x.requires_grad_() for x in random_heads(len(pack), 4, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled_attention, "QUERY_ROWS", query_rows)
        patch.setattr(tiled_attention, "BATCH_PAIRS", batch_pairs)
        patch.setattr(tiled_attention, "KEPT_PAIRS", 2**24 if is_kept else 0)
        plan = plan_tiles(structure)
    for batch in (batch.lay() for batch in plan.batches):
        assert batch.keys.shape[1] % KEY_TILE == 0
        assert len(batch.queries) == 1 or num_pairs(batch) <= batch_pairs
    found = with_gradients(plan(0, *heads), heads)
    expected = with_gradients(dense_attention(*heads, allowed_pairs(pack)), heads)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def num_pairs(batch: Batch) -> int:
    """Return the query-key pairs of a batch, those that are masked included."""
    return batch.queries.numel() * batch.keys.shape[1]


def structure_of(length: int, block: int | None) -> Tensor:
    """Return a pack of two samples: one of `length` tokens, and one of 60 whose response is short."""
    pairs = [(range(2, 2 + p), range(2, 2 + r)) for p, r in ((length // 9, length), (50, 10))]
    views = views_of_responses(pairs, block, (NoiseSchedule(0.1, 0.9), 1), (0, 1))
    (pack,) = pack_views(views, replace(CONVENTIONS, is_full=block is None), 4 * length)
    return pack.structure


def whole_masks(plan: TiledAttend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend as a plan does, by torch's own attention and its gradients, under masks of all pairs."""
    batches = [batch.lay() for batch in plan.batches]
    # One gather for all batches: each would add its gradients to zeros of its own.
    queries = q.index_select(0, torch.cat([batch.queries.flatten() for batch in batches]))
    index = torch.cat([batch.keys.flatten() for batch in batches])
    num_queries, num_keys = ([getattr(b, n).numel() for b in batches] for n in ("queries", "keys"))
    parts = (queries, *(x.index_select(0, index) for x in (k, v)))
    split = [x.split(n) for x, n in zip(parts, (num_queries, num_keys, num_keys), strict=True)]
    mixed = []
    for batch, *heads in zip(batches, *split, strict=True):
        mask = batch.bias.expand(-1, -1, batch.queries.shape[1], -1) == 0
        rows = [x.unflatten(0, (len(mask), -1)).transpose(1, 2) for x in heads]
        found = F.scaled_dot_product_attention(*rows, attn_mask=mask, enable_gqa=True)
        mixed.append(found.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed).index_select(0, plan.place)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("block", [4, 1, None])
def test_batches_have_the_bits_of_torchs_attention_and_its_gradients(
    block: int | None, is_kept: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled_attention, "KEPT_PAIRS", 2**24 if is_kept else 0)
    structure = structure_of(1200, block)
    heads = tuple(x.to(dtype).requires_grad_() for x in random_heads(structure.shape[1], 4, 2))
    plan = plan_tiles(structure)
    found = with_gradients(plan(0, *heads), heads)
    expected = with_gradients(whole_masks(plan, *heads), heads)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def num_bytes(plan: TiledAttend) -> int:
    """Return the memory that a plan takes as long as it is used."""
    names = CompactBatch.__dataclass_fields__
    found = [getattr(batch, name, None) for batch in plan.batches for name in names]
    tensors = [tensor for tensor in found if isinstance(tensor, Tensor)]
    owned = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in owned.values())


def kept_bytes(attend: Attend, num_tokens: int) -> int:
    """Return the memory that is kept for the backward pass."""
    heads = tuple(x.requires_grad_() for x in random_heads(num_tokens, 1, 1))
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        attend(0, *heads)
    return sum(sizes)


@pytest.mark.parametrize("block", [4, 1, None])
def test_a_plan_and_what_it_keeps_grow_with_tokens_and_not_with_pairs(block: int | None) -> None:
    """A mask of all pairs would take four times as much for twice the tokens."""
    short, long = (structure_of(length, block) for length in (8192, 16384))
    assert num_bytes(plan_tiles(long)) < 2.2 * num_bytes(plan_tiles(short))
    short, long = (structure_of(length, block) for length in (1024, 2048))
    before, after = (kept_bytes(plan_tiles(x), x.shape[1]) for x in (short, long))
    assert after < 2.2 * before


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
    plan = plan_documents(torch.tensor(clean + noisy).T)
    assert isinstance(plan, TiledAttend)
    assert sum(num_pairs(batch.lay()) for batch in plan.batches) < 0.7 * 800**2
