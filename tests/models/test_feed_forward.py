"""The gated feed-forward is its formula, and tokens do not affect each other."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


class Products(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_recomputed_gradients_have_the_bits_of_kept_ones() -> None:
    ffn, x = FeedForward(32, 48), torch.randn(64, 32, requires_grad=True)
    ffn(x).square().sum().backward()
    found = [x.grad, *(p.grad for p in ffn.parameters())]
    x.grad = None
    ffn.zero_grad()
    plain = ffn._join(ffn.gate(x), ffn.up(x))
    assert plain.equal(ffn(x))
    plain.square().sum().backward()
    for own, expected in zip(found, [x.grad, *(p.grad for p in ffn.parameters())], strict=True):
        assert own is not None and expected is not None and own.equal(expected)


def test_no_product_is_computed_again() -> None:
    ffn, x = FeedForward(32, 48), torch.randn(64, 32, requires_grad=True)
    with Products() as of_all:
        ffn(x).sum().backward()
    assert (of_all.counts["mm"], of_all.counts["silu"]) == (9, 2)


def test_two_tensors_of_the_inner_width_are_kept() -> None:
    ffn, x = FeedForward(32, 48), torch.randn(64, 32, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = ffn(x)
    weights = sum(p.nbytes for p in (ffn.gate.weight, ffn.up.weight))
    assert held.requires_grad and sum(kept.values()) <= weights + x.nbytes + 2 * 64 * 48 * 4
