"""One RL step's updates: minibatches that share out the views, and honest old log-probabilities."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import policy_views, rl_config
from unmask.diffusion.views import Views
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.policy_update import PolicyUpdate, minibatches


def update_of(model: Model, place: Path, *words: str) -> PolicyUpdate:
    config = rl_config(place, *words)
    return PolicyUpdate(Learner(model, config.optimizer), config)


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
    words = ["minibatches=2", f"objective.shrink={shrink}"]
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
    for words in (["minibatches=1"], ["minibatches=2", "objective.shrink=2"]):
        assert update_of(model, tmp_path, *words)([], seed=0, rate=1e-3) == {}
    assert all(map(torch.equal, model.parameters(), before))
