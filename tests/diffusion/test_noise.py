"""Noise: which slots a view hides, and what they weigh."""

from dataclasses import replace

import torch

from unmask.diffusion.noise import NoiseSchedule, draw_noise

DEFAULT = NoiseSchedule(low=0.1, high=0.9, is_per_token=False, is_elbo=False)
BLOCKS = torch.arange(4000) // 4


def levels(schedule: NoiseSchedule, blocks: torch.Tensor = BLOCKS) -> torch.Tensor:
    """Return the noise level behind each slot, read off its elbo weight."""
    return 1 / draw_noise(5, 2, blocks, replace(schedule, is_elbo=True))[1]


def test_one_seed_draws_one_noise() -> None:
    first, again, other = (draw_noise(seed, 3, BLOCKS, DEFAULT)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_a_view_does_not_depend_on_the_views_beside_it() -> None:
    assert torch.equal(
        draw_noise(1, 3, BLOCKS, DEFAULT)[0][:1], draw_noise(1, 1, BLOCKS, DEFAULT)[0]
    )


def test_a_slot_does_not_depend_on_the_slots_right_of_it() -> None:
    long, short = (draw_noise(1, 2, blocks, DEFAULT)[0] for blocks in (BLOCKS, BLOCKS[:10]))
    assert torch.equal(long[:, :10], short)


def test_a_block_shares_one_level() -> None:
    per_block = levels(DEFAULT).view(2, -1, 4)
    assert torch.equal(per_block, per_block[..., :1].expand_as(per_block))
    assert per_block[..., 0].unique().numel() == 2000
    per_token = levels(replace(DEFAULT, is_per_token=True))
    assert per_token.unique().numel() > 7900


def test_levels_stay_between_low_and_high() -> None:
    drawn = levels(NoiseSchedule(low=0.3, high=0.4, is_per_token=True, is_elbo=False))
    assert 0.3 - 1e-6 <= drawn.min() < 0.301 and 0.399 < drawn.max() <= 0.4 + 1e-6


def test_slots_are_hidden_as_often_as_their_level_says() -> None:
    for is_per_token in (False, True):
        hidden, _ = draw_noise(0, 20, BLOCKS, replace(DEFAULT, is_per_token=is_per_token))
        assert abs(float(hidden.float().mean()) - 0.5) < 0.01
    all_hidden, _ = draw_noise(0, 1, BLOCKS, NoiseSchedule(1.0, 1.0, False, False))
    assert all_hidden.all()


def test_the_elbo_weighs_a_hidden_slot_by_one_over_its_level() -> None:
    """Then every slot counts 1 in expectation, whatever its level."""
    hidden, weight = draw_noise(3, 50, BLOCKS, replace(DEFAULT, is_elbo=True))
    assert abs(float((hidden * weight).mean()) - 1) < 0.02
    assert torch.equal(hidden, draw_noise(3, 50, BLOCKS, DEFAULT)[0])
    assert torch.equal(draw_noise(3, 50, BLOCKS, DEFAULT)[1], torch.ones(50, 4000))
