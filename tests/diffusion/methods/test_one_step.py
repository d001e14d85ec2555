"""Views that hide the whole response."""

import torch

from tests.diffusion.methods.method_views import views_of
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.diffusion.views import views_of_trajectory


def test_every_view_hides_and_predicts_the_whole_response() -> None:
    for trajectory in toy_trajectories(toy_model()):
        views = views_of(trajectory, {"kind": "one_step", "count": 3})
        trained = views_of_trajectory(trajectory, 1.0).target.any(0)
        assert views.hidden.all()
        assert torch.equal(views.target, trained.expand(3, -1))
        assert torch.equal(views.likelihood.weight, views.target.double())
        assert views.likelihood.draw.tolist() == [0, 1, 2]


def test_the_prompt_is_whole_without_noise() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    assert views_of(trajectory, {"kind": "one_step", "prompt_noise": 0}).prompt_hidden is None
    hidden = views_of(
        trajectory, {"kind": "one_step", "prompt_noise": 0.5, "count": 8}
    ).prompt_hidden
    assert hidden is not None and hidden.any() and not hidden.all()
