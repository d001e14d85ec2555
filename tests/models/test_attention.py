"""Attention in rows and in chunks is softmax attention; in chunks, a row's bits are its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.bits import bits_hold
from tests.models.heads import random_heads
from unmask.models.attention import (
    KEY_CHUNK,
    QUERY_TILE,
    attend_chunks,
    plan_rows,
    round_up,
)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attend with `q (Lq, H, E)` over `k, v (Lk, Hk, E)` under `(Lq, Lk)`, as the formula stands."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhe,khe->hqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khe->qhe", weights, v)


def in_heads(x: Tensor) -> Tensor:
    """Return `(Lk, Hk, E)` as one row of keys, `(Hk, Lk, E)`."""
    return x.transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attend in chunks with `q (B, Lq, H, E)` over the same `k, v (Lk, Hk, E)`: `(B * Lq, H, E)`."""
    batch, length, num_heads, width = q.shape
    keys, values = (in_heads(x).repeat(batch, 1, 1) for x in (k, v))
    folded = q.transpose(1, 2).reshape(len(keys), -1, width)
    mixed = attend_chunks(folded, keys, values, hidden).view(batch, num_heads, length, width)
    return mixed.transpose(1, 2).flatten(0, 1)


@settings(max_examples=30)
@given(
    st.integers(1, 3), st.integers(1, 4), st.sampled_from([(4, 4), (4, 2), (6, 1)]), st.randoms()
)
def test_chunks_are_softmax_attention(tiles: int, count: int, heads: tuple[int, int], draw) -> None:  # type: ignore[no-untyped-def]
    length, num_keys = tiles * QUERY_TILE, count * KEY_CHUNK
    q, k, v = random_heads(num_keys, *heads)
    q = q[:length]
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    mask = torch.rand(length, num_keys, generator=generator) < 0.3
    mask[:, draw.randrange(num_keys)] = True
    mixed = attend(q[None], k, v, ~mask[None, None])
    torch.testing.assert_close(mixed, softmax_attention(q, k, v, mask))


def test_masked_chunks_and_other_rows_change_no_bit() -> None:
    if not bits_hold():
        pytest.skip("this CPU does not keep the bits")
    q, k, v = (x.float() for x in random_heads(8 * KEY_CHUNK, 4, 2))
    for visible in (1, 20, KEY_CHUNK, KEY_CHUNK + 1, 200):
        least = round_up(visible, KEY_CHUNK)
        hidden = torch.arange(8 * KEY_CHUNK) >= visible
        alone = attend(
            q[None, :QUERY_TILE],
            k[:least],
            v[:least],
            hidden[:least].expand(1, 1, QUERY_TILE, -1),
        )
        company = attend(torch.stack((q[:64], q[64:128])), k, v, hidden.expand(2, 1, 64, -1))
        assert torch.equal(alone, company[:QUERY_TILE])


def test_what_is_masked_does_not_count() -> None:
    q, k, v = random_heads(2 * KEY_CHUNK, 4, 2)
    hidden = (torch.arange(2 * KEY_CHUNK) >= 70).expand(1, 1, QUERY_TILE, -1)
    plain = attend(q[None, :QUERY_TILE], k, v, hidden)
    k[70:], v[70:] = 1e6, -1e6
    assert torch.equal(attend(q[None, :QUERY_TILE], k, v, hidden), plain)


def test_only_the_last_keys_may_be_hidden() -> None:
    q, k, v = random_heads(3 * KEY_CHUNK, 4, 2)
    hidden = (torch.arange(3 * KEY_CHUNK) >= 140).expand(1, 1, QUERY_TILE, -1)
    whole = attend(q[None, :QUERY_TILE], k, v, hidden)
    assert torch.equal(attend(q[None, :QUERY_TILE], k, v, hidden[..., 2 * KEY_CHUNK :]), whole)
    nothing = hidden[..., :0]
    assert torch.equal(
        attend(q[None, :QUERY_TILE], k, v, nothing),
        attend(q[None, :QUERY_TILE], k, v, torch.zeros_like(hidden)),
    )


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 150), st.integers(0, 20), st.integers(0, 2**31))
def test_planned_rows_are_softmax_attention_within_each_row(
    batch: int, length: int, padding: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.rand(batch, length, length, generator=generator) < 0.2
    allowed |= torch.eye(length, dtype=torch.bool)
    q, k, v = random_heads(batch * length + padding, 4, 2)
    mixed = plan_rows(allowed, batch * length + padding)(0, q, k, v)
    assert mixed.shape == q.shape and mixed.isfinite().all()
    for row in range(batch):
        here = slice(row * length, (row + 1) * length)
        expected = softmax_attention(q[here], k[here], v[here], allowed[row])
        torch.testing.assert_close(mixed[here], expected)


def test_rows_without_keys_attend_to_themselves() -> None:
    """A padding row without any key would be NaN, which spreads to other rows."""
    allowed = torch.zeros(2, 5, 5, dtype=torch.bool)
    allowed[1] = True
    q, k, v = random_heads(16, 4, 2)
    mixed = plan_rows(allowed, 16)(0, q, k, v)
    assert mixed.shape == q.shape and mixed.isfinite().all()
    torch.testing.assert_close(mixed[:5], v[:5].repeat_interleave(2, 1))
    alone = softmax_attention(q[5:10], k[5:10], v[5:10], allowed[1])
    torch.testing.assert_close(mixed[5:10], alone)


def test_narrow_numbers_are_summed_in_wide_ones() -> None:
    q, k, v = random_heads(KEY_CHUNK, 4, 2)
    mask = torch.ones(QUERY_TILE, KEY_CHUNK, dtype=torch.bool)
    narrow = [x.bfloat16() for x in (q[:QUERY_TILE], k, v)]
    mixed = attend(narrow[0][None], narrow[1], narrow[2], ~mask[None, None])
    exact = softmax_attention(*(x.double() for x in narrow), mask)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.double(), exact, rtol=2**-8, atol=1e-6)


def test_round_up() -> None:
    assert [round_up(count, 16) for count in (0, 1, 16, 17)] == [0, 16, 16, 32]
