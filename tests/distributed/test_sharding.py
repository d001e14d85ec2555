"""Training on several ranks is training on one: loss, gradient, weights and scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.distributed.ranks import on_ranks
from tests.models.toy import FAMILY_CHANGES, family_model
from tests.toy import toy_checkpoint, toy_model
from tests.trainers.toy_critics import group_of, written
from tests.trainers.toy_runs import rl_config, supervised_views
from unmask.checkpoints.checkpoint import load_model
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.distributed.sharding import is_sharded
from unmask.distributed.world import ALONE, World
from unmask.models.lora import LoRAParams, add_lora
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.rl_update import build_update
from unmask.trainers.rollout_views import rollout_views

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


def sharded_after_scoring(world: World) -> list[bool]:
    learner = Learner(toy_model(), OptimizerConfig(), world=world)
    learner.score(supervised_views())
    return [is_sharded(parameter) for parameter in learner.model.parameters()]


def test_scoring_leaves_no_whole_weights_behind() -> None:
    """A reference has no backward pass, after which FSDP2 would free its embedding and head."""
    assert all(all(found) for found in on_ranks(sharded_after_scoring))


@pytest.mark.parametrize(
    ("dtype", "has_lora"), [("float32", True), ("float64", False), ("bfloat16", False)]
)
def test_two_ranks_train_as_one_process(dtype: str, has_lora: bool) -> None:
    arguments = (dtype, 64, has_lora, {})
    expected = train(ALONE, *arguments)
    first, second = on_ranks(train, *arguments)
    assert_same(first, expected, DTYPES[dtype])
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name])
    assert first.loss == second.loss
    assert first.metrics == second.metrics


@pytest.mark.parametrize(
    ("size", "shard", "budget"), [(3, None, 8192), (2, 1, 32), (4, 2, 32), (4, 2, 8192)]
)
def test_any_number_of_ranks_and_of_copies(size: int, shard: int | None, budget: int) -> None:
    """With one pack of the whole batch all ranks but one have an empty one, or smaller packs."""
    arguments = ("float32", budget, False, {"is_tied": True})
    expected = train(ALONE, *arguments)
    for found in on_ranks(train, *arguments, size=size, shard=shard):
        assert_same(found, expected, 1e-6)


def step_of_every_family(world: World) -> dict[str, tuple[float, float, dict[str, Tensor]]]:
    """Return loss, gradient norm and weights of a step, by family; layers are recomputed."""
    found: dict[str, tuple[float, float, dict[str, Tensor]]] = {}
    for family in FAMILY_CHANGES:
        model = family_model(family)
        model.backbone.gradient_checkpointing = True
        learner = Learner(model, OptimizerConfig(lr=1e-2, eps=1e-3, token_budget=64), world=world)
        views = supervised_views(block=None if model.spec.is_full else 4)
        update = learner.update(views, LIKELIHOOD, 30.0)
        weights = learner.whole_weights() if world.size > 1 else model.named_parameters()
        found[family] = (
            update.loss,
            update.values["gradient_norm"],
            {n: w.detach().clone() for n, w in weights if w.requires_grad or world.size > 1},
        )
    return found


def test_every_family_trains_on_ranks() -> None:
    expected = step_of_every_family(ALONE)
    for of_rank in on_ranks(step_of_every_family):
        assert of_rank.keys() == expected.keys()
        for family, (loss, norm, weights) in expected.items():
            found = of_rank[family]
            assert found[:2] == pytest.approx((loss, norm), rel=1e-5), family
            assert found[2].keys() == weights.keys()
            for name, weight in weights.items():
                torch.testing.assert_close(found[2][name], weight, rtol=1e-5, atol=1e-6)


def rl_step(world: World, words: tuple[str, ...], place: Path) -> dict[str, Any]:
    """Return the metrics of two RL steps on given trajectories, and the weights after them."""
    config = rl_config(place, *words)
    model = load_model(config.model.path)
    if config.lora is not None:
        add_lora(model, LoRAParams(**config.lora.model_dump()), seed=3)
    update = build_update(config, model, None, world)
    groups = group_of(written(is_full=False))
    views = rollout_views(groups, config)
    metrics: dict[str, Any] = {}
    for step in (1, 2):
        metrics |= {f"{n}.{step}": v for n, v in update.step(groups, views, step, step).items()}
    weights = update.learner.whole_weights() if world.size > 1 else trained_of(model)
    return metrics | {f"weight.{name}": weight.detach().clone() for name, weight in weights}


def trained_of(model: Model) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


CRITICS = {
    "group": ("loss.kl=0.1", "loss.kl_to=REFERENCE"),
    "shared_value": ("advantage.kind=shared_value", "advantage.lr=1e-2", "minibatches=2"),
    "two_loras": (
        *("lora.rank=4", "advantage.kind=value", "advantage.lr=1e-2"),
        *("advantage.lora.rank=4", "minibatches=2", "epochs=2"),
    ),
}


@pytest.mark.parametrize("name", CRITICS)
def test_every_source_of_advantages_on_ranks(name: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    reference = toy_checkpoint(tmp_path / "reference", seed=5)
    words = [word.replace("REFERENCE", str(reference)) for word in CRITICS[name]]
    words += ["optimizer.lr=1e-2", "optimizer.eps=1e-3", "optimizer.token_budget=64"]
    expected = rl_step(ALONE, (*words,), place)
    for found in on_ranks(rl_step, (*words,), place):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)
