"""The views of TraceRL by their config."""

import torch

from tests.toy import toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import toy_trajectories
from unmask.configs.methods.views.trace import TraceViews
from unmask.diffusion.methods.trace import of_trajectory
from unmask.diffusion.views import views_of_trajectory


def test_shrink_and_post_num_are_passed_on() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    config = TraceViews(shrink=2, post_num=1)
    found = of_trajectory(trajectory, 2.0, config, is_full=False)
    expected = views_of_trajectory(trajectory, 2.0, shrink=2, post_num=1)
    assert torch.equal(found.hidden, expected.hidden)
    assert torch.equal(found.advantages, expected.advantages)


def test_they_are_the_samplers_own_states_unless_merged_or_enlarged() -> None:
    assert row().views.is_sampler_path
    for views in ({"shrink": 2}, {"train_block": 8}, {"kind": "random"}, {"kind": "coupled"}):
        assert not row(views).views.is_sampler_path
