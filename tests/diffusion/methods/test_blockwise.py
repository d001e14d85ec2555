"""One block under noise: clean before it, hidden after it."""

from dataclasses import replace

import pytest
import torch

from tests.diffusion.methods.method_views import views_of
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.diffusion.views import Views
from unmask.types import Trajectory


def trajectory() -> Trajectory:
    (found,) = toy_trajectories(toy_model(), 1)
    return replace(found, num_response=9, finish="length")


def blocks(is_full: bool) -> list[list[int]]:
    """Return the positions of each block; the prompt has 3 tokens and blocks have 4."""
    return [[0, 1, 2, 3], [4, 5, 6, 7], [8]] if is_full else [[0], [1, 2, 3, 4], [5, 6, 7, 8]]


def look(is_full: bool, count: int, noise: float = 0.0) -> Views:
    choice = {"kind": "blockwise", "count": count, "context_noise": noise}
    return views_of(trajectory(), choice, is_full)


@pytest.mark.parametrize("is_full", [False, True])
def test_three_views_take_three_blocks(is_full: bool) -> None:
    views = look(is_full, 3)
    opened = []
    for target in views.target[:, :9]:
        first = next(n for n, members in enumerate(blocks(is_full)) if target[members].any())
        later = [i for members in blocks(is_full)[first + 1 :] for i in members]
        assert target[later].all()
        opened.append(first)
    assert sorted(opened) == [0, 1, 2]


@pytest.mark.parametrize("is_full", [False, True])
def test_every_number_of_tokens_of_the_block_is_hidden_at_times(is_full: bool) -> None:
    views = look(is_full, 120)
    block = blocks(is_full)[1]
    first = blocks(is_full)[0]
    is_open = ~views.target[:, first].any(-1)
    assert set(views.target[is_open][:, block].sum(-1).tolist()) == {0, 1, 2, 3, 4}


def test_a_target_weighs_the_inverse_of_the_share_that_is_hidden() -> None:
    views = look(True, 6, 0.15)
    for target, weight in zip(views.target, views.likelihood.weight, strict=True):
        expected = torch.full((int(target.sum()),), 9 / float(target.sum()), dtype=torch.float64)
        torch.testing.assert_close(weight[target], expected)


def test_noise_hides_tokens_of_the_prompt_and_of_earlier_blocks() -> None:
    plain, noisy = look(True, 60), look(True, 60, 0.3)
    assert plain.prompt_hidden is None
    assert noisy.prompt_hidden is not None and noisy.prompt_hidden.any()
    more = noisy.target & ~plain.target
    assert more.any() and not (plain.target & ~noisy.target).any()
