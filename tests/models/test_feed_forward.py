"""The gated feed-forward is its formula, and tokens do not affect each other."""

import torch

from unmask.models.feed_forward import FeedForward


def test_it_is_its_formula() -> None:
    ffn, x = FeedForward(6, 10).double(), torch.randn(16, 6, dtype=torch.float64)
    gate, up = x @ ffn.gate.weight.T, x @ ffn.up.weight.T
    expected = (gate * torch.sigmoid(gate) * up) @ ffn.down.weight.T
    torch.testing.assert_close(ffn(x), expected)
    assert [tuple(p.shape) for p in ffn.parameters()] == [(10, 6), (10, 6), (6, 10)]


@torch.no_grad()
def test_a_token_does_not_depend_on_other_tokens() -> None:
    ffn, x = FeedForward(32, 48), torch.randn(48, 32)
    assert ffn(x)[16:32].equal(ffn(x[16:32]))
