"""Random views by their config: count, noise levels and seeds."""

from dataclasses import replace
from typing import Any

import torch

from tests.toy import toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import toy_trajectories
from unmask.configs.methods import partner
from unmask.configs.sft import SFTConfig
from unmask.diffusion.methods.random import of_demonstrations
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Canvas, Views, views_of_responses, views_of_trajectory
from unmask.types import Trajectory


def views_of(
    trajectory: Trajectory, choice: dict[str, Any] | None = None, is_full: bool = False
) -> Views:
    """Return the views of a row of the method table."""
    views = row(choice).views
    method = partner(views, "unmask.diffusion.methods")
    return method.of_trajectory(trajectory, 1.0, views, is_full)


def test_each_kind_of_views_is_its_row() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    num_response = trajectory.num_response
    trace = views_of(trajectory)
    assert torch.equal(trace.target, views_of_trajectory(trajectory, 1.0).target)
    masked = views_of(trajectory, {"kind": "random", "count": 5})
    assert len(masked.target) == 5
    coupled = views_of(trajectory, {"kind": "coupled", "count": 5})
    assert coupled.target.sum(0)[:num_response].tolist() == [5] * num_response
    everything = {"kind": "random", "low": 1.0, "high": 1.0}
    assert views_of(trajectory, everything).target.sum() == num_response


def test_masks_follow_level_and_attention() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    choices = [{"kind": "random", "count": 9, "level": level} for level in ("block", "token")]
    found = [views_of(trajectory, choice, full) for choice in choices for full in (False, True)]
    targets = [views.target for views in found]
    assert not torch.equal(targets[0], targets[1])  # a level per block, or per view
    assert torch.equal(targets[2], targets[3])  # per token either way
    assert [views.block for views in found] == [4, len(trajectory.canvas_ids)] * 2


def test_seeds_are_masked_differently_and_one_seed_alike() -> None:
    choice = {"kind": "random", "count": 4}
    first, second = (
        replace(t, prompt=t.prompt, sampling=replace(t.sampling, seed=seed))
        for seed, t in enumerate(toy_trajectories(toy_model(), 1) * 2)
    )
    found = [views_of(t, choice).target for t in (first, second, first)]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_demonstrations_are_views_of_responses_under_noise() -> None:
    config = SFTConfig.model_validate({"model": {"path": "-"}, "views": {"count": 3}}).views
    pairs = [([9] * 5, [2] * 6), ([9] * 2, [3] * 9)]
    found = of_demonstrations([(*pair, None) for pair in pairs], config, Canvas(4), [1, 2])
    expected = views_of_responses(pairs, 4, (NoiseSchedule(0.1, 0.9), 3), [1, 2])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.hidden, theirs.hidden) and len(ours.hidden) == 3
