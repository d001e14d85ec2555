"""Prompts under noise: which tokens are hidden, and that pictures are not."""

from dataclasses import replace

import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.diffusion.prompt_noise import hide_prompt
from unmask.diffusion.views import Views, views_of_trajectory


def views() -> Views:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    many = torch.arange(2, 202)
    traced = views_of_trajectory(trajectory, 1.0)
    return replace(traced, prompt_ids=many)


def test_each_view_hides_its_own_share_of_the_prompt() -> None:
    plain = views()
    found = hide_prompt(plain, 3, 0.25).prompt_hidden
    assert found is not None and found.shape == (len(plain.target), 200)
    assert 0.15 < float(found.double().mean()) < 0.35
    assert not torch.equal(found[0], found[1])


def test_the_seed_alone_draws_and_0_hides_nothing() -> None:
    plain = views()
    first, again, other = (hide_prompt(plain, seed, 0.5).prompt_hidden for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert hide_prompt(plain, 1, 0.0) is plain


def test_vectors_of_pictures_stay() -> None:
    plain = views()
    ids = plain.prompt_ids.clone()
    ids[10:20] = -1 - torch.arange(10)
    found = hide_prompt(replace(plain, prompt_ids=ids), 3, 0.9).prompt_hidden
    assert found is not None and found.any() and not found[:, 10:20].any()
