"""One RL step's updates: minibatches that share out the views, and old log-probabilities."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import policy_views, rl_config, toy_trajectories
from unmask.configs.methods import partner
from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_policy_objective
from unmask.trainers.policy_update import PolicyUpdate, minibatches, order_seed
from unmask.trainers.reference import Scorer


def policy_update(model: Model, config: RLConfig, reference: Scorer | None = None) -> PolicyUpdate:
    learner = Learner(model, config.optimizer)
    return PolicyUpdate(learner, config, build_policy_objective(config), reference)


def update_of(model: Model, place: Path, *words: str) -> PolicyUpdate:
    return policy_update(model, rl_config(place, *words))


def views_of_method(model: Model, config: RLConfig, first: float = 1.5) -> list[Views]:
    """Return views of a method, with advantages of both signs."""
    of_trajectory = partner(config.views, "unmask.diffusion.methods").of_trajectory
    written = toy_trajectories(model)
    return [of_trajectory(t, first - n, config.views, False) for n, t in enumerate(written)]


def lengths(parts: list[list[Views]]) -> list[list[int]]:
    """Name views by their prompt's length, which differs from view to view."""
    return [[len(v.prompt_ids) for v in part] for part in parts]


@pytest.mark.parametrize("count", [1, 2, 4, 6, 20])
def test_minibatches_share_out_the_views(count: int) -> None:
    views = policy_views(toy_model())
    parts = lengths(minibatches(views, count, seed=3))
    assert sorted(chain.from_iterable(parts)) == sorted(len(v.prompt_ids) for v in views)
    assert len(parts) == min(count, len(views))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_seed_alone_makes_the_order() -> None:
    views = policy_views(toy_model())
    orders = [lengths(minibatches(views, 2, seed)) for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("shrink", [1, 2])
def test_the_first_ratio_is_1_also_with_merged_views(shrink: int, tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float64)
    words = ["minibatches=2", f"views.shrink={shrink}"]
    update = update_of(model, tmp_path, *words)
    numbers = update(policy_views(model, shrink), seed=0, rate=1e-12)
    assert numbers["ratio"] == pytest.approx(1, abs=1e-6)
    assert numbers["kl"] == pytest.approx(0, abs=1e-9)
    # Merged views are not those the engine drew from: a gap would say nothing.
    assert ("logprob_gap_max" in numbers) == (shrink == 1)


def test_the_gap_reported_is_that_of_the_first_update(tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float64)
    update = update_of(model, tmp_path, "minibatches=6")
    numbers = update(policy_views(model), seed=0, rate=0.1)
    assert numbers["logprob_gap_max"] < 1e-9
    assert abs(numbers["ratio"] - 1) > 1e-3


def test_without_views_nothing_happens(tmp_path: Path) -> None:
    model = toy_model()
    before = [p.detach().clone() for p in model.parameters()]
    for words in (["minibatches=1"], ["minibatches=2", "views.shrink=2"]):
        assert update_of(model, tmp_path, *words)([], seed=0, rate=1e-3) == {"updates": 0}
    assert all(map(torch.equal, model.parameters(), before))


def test_an_epoch_is_another_pass_in_another_order(tmp_path: Path) -> None:
    views = policy_views(toy_model())
    orders = [lengths(minibatches(views, 2, order_seed(5, epoch))) for epoch in range(3)]
    assert orders[0] == lengths(minibatches(views, 2, 5))
    assert orders[0] != orders[1] != orders[2]
    model = toy_model(dtype=torch.float64)
    config = rl_config(tmp_path, "epochs=3", "minibatches=2")
    learner = Learner(model, config.optimizer)
    update = PolicyUpdate(learner, config, build_policy_objective(config))
    assert update(policy_views(model), seed=5, rate=1e-3)["updates"] == learner.num_updates == 6


def test_every_epoch_measures_from_the_policy_that_started_the_step(tmp_path: Path) -> None:
    """With several passes of one minibatch the ratio grows: old log-probabilities stay."""
    ratios = []
    for epochs in (2, 3, 4):
        model = toy_model(dtype=torch.float64)
        update = update_of(model, tmp_path, f"epochs={epochs}")
        numbers = update(policy_views(model), seed=0, rate=1e-4)
        ratios.append(numbers["ratio_max"])
    assert 1 < ratios[0] < ratios[1] < ratios[2]


def weights_after(config: RLConfig, passes: int) -> torch.Tensor:
    model = toy_model(dtype=torch.float64)
    views = policy_views(model)
    update = policy_update(model, config)
    for step in range(passes):
        update(views, seed=step, rate=1e-3)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_optimizer_is_reset_at_every_step_if_asked(tmp_path: Path) -> None:
    words = ["optimizer.reset_every_step=true", "minibatches=2"]
    kept, reset = rl_config(tmp_path, "minibatches=2"), rl_config(tmp_path, *words)
    assert torch.equal(weights_after(kept, 1), weights_after(reset, 1))
    assert not torch.equal(weights_after(kept, 2), weights_after(reset, 2))


METHODS = [
    row(),
    row({"shrink": 2}, {"reduction": "view"}),
    row({"kind": "random", "count": 2}, {"reduction": "sequence"}),
    row({"kind": "coupled", "count": 2, "level": "token"}, {"reduction": "constant"}),
]


def name_of(config: RLConfig) -> str:
    return f"{config.views.kind}-{config.loss.reduction}"


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_microbatches_of_any_size_are_one_update(method: RLConfig, tmp_path: Path) -> None:
    """Law 4 with everything on: reference, importance, dual clip, several epochs and minibatches."""
    on = {"kl": 0.3, "kl_to": "reference", "dual_clip": 1.01, "max_importance": 1.5}
    choices = {"views": method.views, "loss": method.loss.model_copy(update=on)}
    found = []
    for budget in (8192, 96, 40):
        model = toy_model(dtype=torch.float64)
        words = ["minibatches=2", "epochs=2", f"optimizer.token_budget={budget}"]
        words += ["optimizer.eps=1", "optimizer.clip_norm=none"]
        config = rl_config(tmp_path, *words).model_copy(update=choices)
        reference = Scorer(toy_model(seed=4, dtype=torch.float64), budget)
        update = policy_update(model, config, reference)
        metrics = update(views_of_method(model, config), seed=1, rate=1e-2)
        del metrics["packed_tokens"]
        found.append((metrics, torch.cat([p.detach().flatten() for p in model.parameters()])))
    for metrics, weights in found[1:]:
        assert metrics == pytest.approx(found[0][0], rel=1e-9, abs=1e-12)
        torch.testing.assert_close(weights, found[0][1], rtol=0, atol=1e-10)
    assert found[0][0]["kl"] > 0.01 and found[0][0]["importance_max"] <= 1.5


@pytest.mark.parametrize("method", METHODS[1:], ids=name_of)
def test_the_first_ratio_is_1_under_every_method(method: RLConfig, tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float64)
    choices = {"views": method.views, "loss": method.loss}
    config = rl_config(tmp_path, "epochs=2").model_copy(update=choices)
    views = views_of_method(model, config)
    numbers = policy_update(model, config)(views, seed=0, rate=1e-12)
    assert numbers["ratio_max"] == pytest.approx(1, abs=1e-6)
    assert "logprob_gap" not in numbers
