"""Muon: which weights it changes, its update against the equation, and resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import Shard, distribute_tensor

from tests.distributed.ranks import on_ranks
from tests.models.toy import SOFTMAX
from tests.toy import toy_model
from tests.trainers.optimizers.resume import assert_resumes_to_the_bit, config_of
from unmask.distributed.sharding import whole
from unmask.distributed.world import ALONE, World
from unmask.trainers.learner import Learner
from unmask.trainers.optimizers import build_optimizer
from unmask.trainers.optimizers.muon import ShardedMuon

EXPERTS: dict[str, Any] = {"num_layers": 3, "moe": SOFTMAX}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_resumes_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    assert_resumes_to_the_bit("muon", dtype, tmp_path)


def test_it_takes_matrices_of_the_layers_and_adamw_the_rest() -> None:
    named = list(toy_model(0, **EXPERTS).named_parameters())
    adamw, muon = build_optimizer(named, config_of("muon"), {})
    assert isinstance(adamw.optimizer, torch.optim.AdamW)
    assert isinstance(muon.optimizer, torch.optim.Muon)
    names: dict[Tensor, str] = {weight: name for name, weight in named}
    hidden = {names[weight] for weight in muon.parameters}
    rest = {names[weight] for weight in adamw.parameters}
    assert hidden | rest == dict(named).keys() and not hidden & rest
    assert {"backbone.layers.0.attention.q.weight", "backbone.layers.1.ffn.down.weight"} <= hidden
    assert {"backbone.embedding.weight", "head.projection.weight", "backbone.norm.weight"} <= rest
    assert "backbone.layers.2.ffn.experts.up.weight" in rest  # (experts, m, n)


def test_a_step_is_the_orthogonal_momentum_scaled_to_adamws_size() -> None:
    """After one step the momentum is the gradient, whose singular values become about one."""
    torch.manual_seed(0)
    weight = torch.zeros(48, 32, requires_grad=True)
    named = [("backbone.layers.0.ffn.up.weight", weight)]
    (muon,) = build_optimizer(named, config_of("muon", weight_decay=0.0), {})
    weight.grad = torch.randn(48, 32)
    u, _, v = torch.linalg.svd(weight.grad, full_matrices=False)
    muon.optimizer.step()
    with torch.no_grad():
        step = -weight / (1e-2 * 0.2 * 48**0.5)
        values = torch.linalg.svdvals(step)
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3
        cosine = torch.nn.functional.cosine_similarity(step.flatten(), (u @ v).flatten(), dim=0)
    assert float(cosine) > 0.97


def muon_steps(world: World) -> list[Tensor]:
    """Take three steps with given gradients of matrices whose rows the ranks share, and return the matrices."""
    torch.manual_seed(0)
    shapes = [(48, 32), (32, 48), (5, 64), (1, 16)]
    own = [torch.randn(shape) for shape in shapes]
    named = [
        (f"backbone.layers.0.{n}", part_of(world, weight).requires_grad_())
        for n, weight in enumerate(own)
    ]
    (muon,) = build_optimizer(named, config_of("muon"), {})
    assert isinstance(muon.optimizer, ShardedMuon) == (world.size > 1)
    for _ in range(3):
        for _, weight in named:
            weight.grad = part_of(world, torch.randn(weight.shape))
        muon.optimizer.step()
    return [whole(weight.detach()) for _, weight in named]


def part_of(world: World, tensor: Tensor) -> Tensor:
    if world.mesh is None:
        return tensor.clone()
    return distribute_tensor(tensor, world.mesh["shard"], [Shard(0)])


@pytest.mark.parametrize("size", [2, 3])
def test_sharded_matrices_get_the_update_of_one_process_to_the_bit(size: int) -> None:
    for found in on_ranks(muon_steps, size=size):
        for mine, expected in zip(found, muon_steps(ALONE), strict=True):
            assert torch.equal(mine, expected)


def test_the_state_of_another_optimizer_is_refused() -> None:
    other = Learner(toy_model(), config_of("adamw"))
    learner = Learner(toy_model(), config_of("muon"))
    assert not other.state()
    with pytest.raises(ValueError, match="the optimizer state is not this model's"):
        learner.restore({"exp_avg/backbone.norm.weight": torch.zeros(32)}, 1)
