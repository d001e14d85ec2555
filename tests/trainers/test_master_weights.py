"""Masters: what bf16 would round away is kept, and fp32 is its own master."""

import torch
from torch import nn

from unmask.trainers.master_weights import MasterWeights


def narrow_layer() -> nn.Linear:
    """Return a bf16 layer whose weights are all 1."""
    layer = nn.Linear(2, 1, bias=False).bfloat16()
    nn.init.ones_(layer.weight)
    return layer


def test_many_updates_too_small_for_bf16_add_up() -> None:
    layer, lost = narrow_layer(), narrow_layer()
    masters = MasterWeights(layer)
    ((_, master),) = masters.named
    for _ in range(200):
        with torch.no_grad():
            master -= 1e-4
            lost.weight -= 1e-4
        masters.write()
    assert torch.equal(lost.weight, torch.ones_like(lost.weight))
    torch.testing.assert_close(master, torch.full_like(master, 0.98))
    assert torch.equal(layer.weight, master.bfloat16())


def test_gradients_of_a_narrow_module_are_summed_in_fp32() -> None:
    layer = narrow_layer()
    masters = MasterWeights(layer)
    ((_, master),) = masters.named
    for gradient in [1.0] + [2.0**-9] * 64:
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        masters.take_gradients()
        assert layer.weight.grad is None
    assert master.grad is not None
    assert master.grad.dtype == torch.float32
    assert torch.equal(master.grad, torch.full_like(master, 1 + 64 * 2.0**-9))


def test_a_wide_module_is_its_own_master() -> None:
    for dtype in (torch.float32, torch.float64):
        layer = nn.Linear(2, 3).to(dtype)
        masters = MasterWeights(layer)
        assert [master for _, master in masters.named] == list(layer.parameters())
        layer.weight.grad = torch.ones_like(layer.weight)
        masters.take_gradients()
        masters.write()
        assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))


def test_frozen_and_unused_weights_are_left_alone() -> None:
    layer = nn.Linear(2, 3).bfloat16()
    layer.bias.requires_grad_(False)
    masters = MasterWeights(layer)
    assert [name for name, _ in masters.named] == ["weight"]
    masters.take_gradients()
    assert masters.named[0][1].grad is None
