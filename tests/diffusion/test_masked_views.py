"""Random and coupled views: what is hidden, what is a target, and draws that know only their trajectory."""

import random
from dataclasses import replace

import pytest
import torch

from tests.diffusion.trajectories import random_trajectory
from unmask.diffusion.masked_views import draw_masks, masked_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.types import Trajectory

HALF = NoiseSchedule(0.1, 0.9)
PER_TOKEN = replace(HALF, level="token")


def trajectories(count: int = 40) -> list[Trajectory]:
    rng = random.Random(0)
    return [random_trajectory(rng, rng.choice([1, 2, 4, 5])) for _ in range(count)]


def looks_at(
    trajectory: Trajectory,
    is_coupled: bool,
    is_full: bool = False,
    schedule: NoiseSchedule = HALF,
    num_masks: int = 3,
    post_num: int = 0,
) -> Views:
    traced = views_of_trajectory(trajectory, 1.5, 1, post_num, is_full)
    seed = trajectory.sampling.seed
    return masked_views(traced, seed, num_masks, schedule, 1 + is_coupled, is_full)


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("schedule", [HALF, PER_TOKEN])
def test_coupled_views_target_every_response_slot_once_per_mask(
    schedule: NoiseSchedule, is_full: bool
) -> None:
    for number, trajectory in enumerate(trajectories()):
        seeded = replace(trajectory, sampling=replace(trajectory.sampling, seed=number))
        views = looks_at(seeded, True, is_full, schedule, num_masks=3)
        position = torch.arange(len(trajectory.canvas_ids))
        expected = 3 * (position < trajectory.num_response).long()
        assert torch.equal(views.target.sum(0), expected)
        assert views.target.any(-1).all()


@pytest.mark.parametrize("is_full", [False, True])
def test_pairs_are_complements_and_random_masks_are_the_first_of_them(is_full: bool) -> None:
    for trajectory in trajectories():
        alone = looks_at(trajectory, False, is_full)
        pairs = looks_at(trajectory, True, is_full)
        assert len(alone.target) == 3
        is_trained = torch.arange(len(trajectory.canvas_ids)) < trajectory.num_response
        rows = iter(pairs.target)
        for mask in alone.target:
            assert torch.equal(next(rows), mask)
            if (is_trained & ~mask).any():
                assert torch.equal(next(rows), is_trained & ~mask)
        assert next(rows, None) is None


@pytest.mark.parametrize("is_coupled", [False, True])
def test_hidden_are_the_targets_and_everything_right_of_the_response(is_coupled: bool) -> None:
    for trajectory in trajectories():
        views = looks_at(trajectory, is_coupled)
        num_response = trajectory.num_response
        assert torch.equal(views.hidden[:, :num_response], views.target[:, :num_response])
        assert views.hidden[:, num_response:].all() and not views.target[:, num_response:].any()
        shape = (len(views.target), len(trajectory.canvas_ids))
        assert views.hidden.shape == views.weight.shape == views.old_logprobs.shape == shape
        assert (views.weight == 1).all() and (views.advantages == 1.5).all()


def test_slots_asked_for_right_of_the_stop_are_masked_like_the_response() -> None:
    found = 0
    for trajectory in trajectories():
        stopped = replace(trajectory, finish="stop")
        after = views_of_trajectory(stopped, 1.0, post_num=2).target.any(0)
        views = looks_at(stopped, True, post_num=2)
        assert torch.equal(views.target.sum(0), 3 * after.long())
        found += int(after[trajectory.num_response :].sum())
    assert found > 5


def test_draws_are_keyed_by_the_trajectory_alone() -> None:
    first, second = trajectories(2)
    again = looks_at(first, True)
    assert torch.equal(looks_at(first, True).target, again.target)
    other = replace(first, sampling=replace(first.sampling, seed=first.sampling.seed + 1))
    assert not torch.equal(looks_at(other, False, num_masks=8).target, again.target[:8])
    more = looks_at(first, False, num_masks=5)
    assert torch.equal(looks_at(first, False, num_masks=2).target, more.target[:2])
    assert looks_at(second, False).target.shape[1] == len(second.canvas_ids)


def test_levels_are_drawn_per_block_of_the_grid_or_once_per_view() -> None:
    """Levels near 0 and near 1 alone: a block is then all hidden or all shown."""
    blocks = torch.arange(4).repeat_interleave(50)
    everywhere = torch.ones(200, dtype=torch.bool)
    shares, _ = draw_masks(3, 200, blocks, everywhere, NoiseSchedule(0.05, 0.95))
    of_blocks = shares.view(200, 4, 50).float().mean(-1)
    assert (of_blocks.amax(-1) - of_blocks.amin(-1)).mean() > 0.3
    of_tokens, _ = draw_masks(3, 200, blocks, everywhere, NoiseSchedule(0.05, 0.95, "token"))
    spread = of_tokens.view(200, 4, 50).float().mean(-1)
    assert (spread.amax(-1) - spread.amin(-1)).mean() < 0.2
    for masks in (shares, of_tokens):
        assert float(masks.float().mean()) == pytest.approx(0.5, abs=0.03)


def test_a_mask_hides_at_least_one_slot_and_a_response_of_one_token_has_no_complement() -> None:
    rare = NoiseSchedule(0.01, 0.02)
    is_trained = torch.tensor([False, True, True, False])
    masks, _ = draw_masks(0, 500, torch.zeros(4, dtype=torch.int64), is_trained, rare)
    assert masks.any(-1).all() and not masks[:, [0, 3]].any()
    assert masks[:, 1].any() and masks[:, 2].any()
    one = next(t for t in trajectories(200) if t.num_response == 1)
    assert looks_at(one, True, num_masks=4).target[:, 0].tolist() == [True] * 4
