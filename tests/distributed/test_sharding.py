"""Training on several ranks is training on one: loss, gradient, weights and scores."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.distributed.ranks import on_ranks
from tests.toy import toy_model
from tests.trainers.toy_runs import supervised_views
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.distributed.world import ALONE, World
from unmask.models.lora import LoRAParams, add_lora
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective

LIKELIHOOD = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
DTYPES = {"float32": 1e-6, "float64": 1e-12, "bfloat16": 2e-2}


class Trained(NamedTuple):
    loss: list[float]
    metrics: list[dict[str, float]]
    weights: dict[str, Tensor]
    scores: list[Tensor]


def train(
    world: World, dtype: str, budget: int, has_lora: bool, changes: dict[str, Any]
) -> Trained:
    """Take three steps and return what came of them."""
    model = toy_model(dtype=getattr(torch, dtype), **changes)
    if has_lora:
        add_lora(model, LoRAParams(targets=("all",), rank=4), seed=3)
    config = OptimizerConfig(lr=1e-2, eps=1e-3, clip_norm=0.5, token_budget=budget)
    learner, views = Learner(model, config, world=world), supervised_views()
    updates = [learner.update(views, LIKELIHOOD, 30.0) for _ in range(3)]
    weights = dict(learner.whole_weights()) if world.size > 1 else dict(model.named_parameters())
    return Trained(
        [update.loss for update in updates],
        [update.values for update in updates],
        {
            name: w.detach().clone()
            for name, w in weights.items()
            if w.requires_grad or world.size > 1
        },
        learner.score(views),
    )


def assert_same(found: Trained, expected: Trained, bound: float) -> None:
    torch.testing.assert_close(found.loss, expected.loss, rtol=bound, atol=bound)
    assert found.metrics[0].keys() == expected.metrics[0].keys()
    for name in ("gradient_norm", "entropy"):
        for mine, other in zip(found.metrics, expected.metrics, strict=True):
            assert mine.get(name) == pytest.approx(other.get(name), rel=10 * bound, abs=bound)
    trained = {n: w for n, w in expected.weights.items() if n in found.weights}
    assert trained.keys() == found.weights.keys()
    assert found.weights
    for name, weight in trained.items():
        torch.testing.assert_close(
            found.weights[name], weight.detach(), rtol=bound, atol=10 * bound
        )
    for mine, other in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(mine, other, rtol=bound, atol=10 * bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_lora", [False, True])
def test_two_ranks_train_as_one_process(dtype: str, has_lora: bool) -> None:
    arguments = (dtype, 64, has_lora, {})
    expected = train(ALONE, *arguments)
    first, second = on_ranks(train, *arguments)
    assert_same(first, expected, DTYPES[dtype])
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name])
    assert first.loss == second.loss
    assert first.metrics == second.metrics


@pytest.mark.parametrize(("size", "shard"), [(3, None), (2, 1), (4, 2)])
@pytest.mark.parametrize("budget", [32, 8192])
def test_any_number_of_ranks_and_of_copies(size: int, shard: int | None, budget: int) -> None:
    """With one pack of the whole batch all ranks but one have an empty one, or smaller packs."""
    arguments = ("float32", budget, False, {"is_tied": True})
    expected = train(ALONE, *arguments)
    for found in on_ranks(train, *arguments, size=size, shard=shard):
        assert_same(found, expected, 1e-6)
