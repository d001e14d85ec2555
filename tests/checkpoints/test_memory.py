"""The bytes computed from a spec are those of the tensors."""

import pytest
import torch

from tests.models.toy import toy_model
from unmask.checkpoints.memory import count_parameters, memory, meta_model
from unmask.checkpoints.random_init import random_spec
from unmask.models.transformer import Model
from unmask.trainers.master_weights import MasterWeights


def test_weights_and_cache() -> None:
    model = toy_model()
    total, active = count_parameters(model)
    assert total == active == sum(parameter.numel() for parameter in model.parameters())
    wide, narrow = memory(model.spec, total, 10)
    assert wide.weights == 4 * total and narrow.weights == 2 * total
    # 2 layers, keys and values, 2 heads of 16
    assert wide.cache_per_token == 2 * 2 * 2 * 16 * 4 == 2 * narrow.cache_per_token
    assert wide.serving == wide.weights + 10 * wide.cache_per_token


def test_tied_weights_count_once() -> None:
    spec = toy_model().spec
    assert count_parameters(toy_model())[0] - count_parameters(toy_model(is_tied=True))[0] == (
        spec.vocab_size * spec.width
    )


@pytest.mark.parametrize("family", ["sdar_moe", "llada2"])
def test_a_token_passes_its_own_experts(family: str) -> None:
    spec = random_spec(family, "tiny", 40)
    assert spec.moe is not None
    total, active = count_parameters(meta_model(spec))
    idle = spec.moe.num_experts - spec.moe.num_active
    assert total - active == idle * 3 * spec.width * spec.moe.width * len(spec.moe.layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_on_one_device_is_what_the_optimizer_holds(dtype: torch.dtype) -> None:
    """All tensors that exist after one optimizer step."""
    model: Model = toy_model().to(dtype)
    masters = MasterWeights(model)
    optimizer = torch.optim.AdamW([master for _, master in masters.named])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    module_gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    masters.take_gradients()
    optimizer.step()
    copies = sum(master.nbytes for _, master in masters.copies)
    gradients = sum(master.grad.nbytes for _, master in masters.named if master.grad is not None)
    gradients += module_gradients if masters.copies else 0
    moments = sum(
        state.nbytes
        for states in optimizer.state.values()
        for name, state in states.items()
        if name != "step"
    )
    name = str(dtype).removeprefix("torch.")
    total, _ = count_parameters(model)
    (row,) = [row for row in memory(model.spec, total, 0) if row.dtype == name]
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert row.training[0] == weights + copies + gradients + moments


def test_shards_share_evenly_and_each_device_has_the_engines_copy() -> None:
    _, row = memory(toy_model().spec, 1000, 0)
    assert (row.dtype, row.training) == ("bfloat16", (20_000, 12_000, 7_000, 4_500))
