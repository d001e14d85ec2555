"""A sample of denoising steps: which, how often and with what weight."""

from collections import Counter
from dataclasses import replace

import torch

from tests.diffusion.methods.method_views import views_of
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.diffusion.views import views_of_trajectory


def test_every_step_is_drawn_alike_often_the_last_one_too() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1, strategy="left_to_right")
    traced = views_of_trajectory(trajectory, 1.0)
    steps = {tuple(target): n for n, target in enumerate(traced.target.tolist())}
    assert len(steps) == 4
    drawn: Counter[int] = Counter()
    for seed in range(400):
        seeded = replace(trajectory, sampling=replace(trajectory.sampling, seed=seed))
        views = views_of(seeded, {"kind": "steps", "count": 3})
        numbers = [steps[tuple(target)] for target in views.target.tolist()]
        assert sorted(set(numbers)) == numbers and len(numbers) == 3
        assert torch.equal(views.hidden, traced.hidden[numbers])
        assert views.weight.unique().tolist() == [torch.tensor(4 / 3).item()]
        drawn.update(numbers)
    assert all(250 < drawn[n] < 350 for n in range(4))


def test_fewer_steps_than_asked_for_are_all_taken() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    traced, views = (
        views_of_trajectory(trajectory, 1.0),
        views_of(trajectory, {"kind": "steps", "count": 99}),
    )
    assert torch.equal(views.target, traced.target) and torch.equal(views.weight, traced.weight)
