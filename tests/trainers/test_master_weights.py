"""Masters: what bf16 would round away is kept, and fp32 is its own master."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.distributed.ranks import on_ranks
from tests.trainers.optimizers.resume import assert_equal, trained, trained_on_ranks
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


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_masters_in_host_memory_give_the_same_bits_and_resume(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    expected = trained(kind, dtype, tmp_path, None)
    assert_equal(trained(kind, dtype, tmp_path, None, offload=True), expected)
    assert_equal(trained(kind, dtype, tmp_path, 3, offload=True), expected)


def test_masters_in_host_memory_are_copies_of_their_own() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        layer = nn.Linear(2, 3).to(dtype)
        masters = MasterWeights(layer, is_on_host=True)
        assert [master.dtype for _, master in masters.named] == [torch.float32] * 2
        assert len(masters.copies) == (2 if dtype == torch.bfloat16 else 0)
        with torch.no_grad():
            masters.named[0][1].zero_()
        assert layer.weight.any()
        masters.write()
        assert not layer.weight.any()


def test_sharded_masters_in_host_memory_give_the_same_bits() -> None:
    expected = on_ranks(trained_on_ranks, "adamw", "bfloat16", False)
    found = on_ranks(trained_on_ranks, "adamw", "bfloat16", True)
    for (weights, losses, memory), (others, other_losses, other_memory) in zip(
        expected, found, strict=True
    ):
        assert losses == other_losses
        assert weights.keys() == others.keys()
        assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
        assert memory.endswith(" GiB per rank")
        assert other_memory.endswith(" GiB in host memory per rank")
