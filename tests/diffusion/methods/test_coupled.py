"""Coupled views by their config."""

import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.configs.methods.views.coupled import CoupledViews
from unmask.configs.methods.views.random import RandomViews
from unmask.diffusion.methods import coupled, random


def test_the_masks_are_those_of_random_each_followed_by_its_complement() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    masks = random.of_trajectory(trajectory, 1.0, RandomViews(count=4), is_full=False).target
    pairs = coupled.of_trajectory(trajectory, 1.0, CoupledViews(count=4), is_full=False)
    assert pairs.target.sum(0)[: trajectory.num_response].tolist() == [4] * trajectory.num_response
    assert all(any(torch.equal(mask, found) for found in pairs.target) for mask in masks)
