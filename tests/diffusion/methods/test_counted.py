"""Masks of an exact number of tokens: how many, of what, and their weights. Unbiased: test_likelihood.py."""

from dataclasses import replace

import torch

from tests.diffusion.methods.method_views import views_of
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.types import Trajectory


def trajectory() -> Trajectory:
    (found,) = toy_trajectories(toy_model(), 1)
    return replace(found, num_response=5, finish="length")


def test_cyclic_masks_hide_each_number_of_tokens_once() -> None:
    views = views_of(trajectory(), {"kind": "counted", "count": 5, "spread": "cyclic"}, True)
    hidden = views.target.sum(-1)
    assert sorted(hidden.tolist()) == [1, 2, 3, 4, 5]
    expected = torch.where(views.target, 5 / hidden[:, None], 0.0).double()
    torch.testing.assert_close(views.likelihood.weight, expected)


def test_a_mask_and_its_complement_predict_every_token_once() -> None:
    choice = {"kind": "counted", "count": 60, "coupled": True}
    views = views_of(trajectory(), choice, True)
    estimate = views.likelihood
    numbers = set[int]()
    for draw in range(60):
        own = views.target[estimate.draw == draw]
        assert own.any(-1).all()
        assert own.sum(0)[:5].tolist() == [1] * 5
        weights = estimate.weight[estimate.draw == draw]
        for target, weight in zip(own, weights, strict=True):
            torch.testing.assert_close(
                weight[target], (0.5 * 6 / target.sum()).expand(target.sum()).double()
            )
        numbers.add(int(own[0].sum()) if len(own) == 2 else 0)
    assert numbers == {0, 1, 2, 3, 4}


def test_every_block_has_its_own_number() -> None:
    choice = {"kind": "counted", "count": 30, "level": "block"}
    views = views_of(trajectory(), choice)  # a prompt of 3 tokens: blocks of 1 and 4 positions
    assert (views.target[:, :1].sum(-1) == 1).all()
    assert set(views.target[:, 1:5].sum(-1).tolist()) == {1, 2, 3, 4}
