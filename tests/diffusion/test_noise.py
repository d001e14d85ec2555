"""Noise: which positions a view hides, and with which probability."""

from dataclasses import replace

import torch

from unmask.diffusion.noise import NoiseSchedule, draw_noise, elbo_weights

DEFAULT = NoiseSchedule(0.1, 0.9)
BLOCKS = torch.arange(4000) // 4


def levels(schedule: NoiseSchedule, blocks: torch.Tensor = BLOCKS) -> torch.Tensor:
    """Return the noise level of each position."""
    return draw_noise(5, 2, blocks, schedule)[1]


def draw_hidden(
    seed: int, num_views: int, blocks: torch.Tensor, schedule: NoiseSchedule
) -> torch.Tensor:
    """Return which positions are hidden."""
    drawn, level = draw_noise(seed, num_views, blocks, schedule)
    return drawn < level


def test_one_seed_draws_one_noise() -> None:
    first, again, other = (draw_hidden(seed, 3, BLOCKS, DEFAULT) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_a_view_does_not_depend_on_the_number_of_views() -> None:
    three, one = (draw_hidden(1, count, BLOCKS, DEFAULT) for count in (3, 1))
    assert torch.equal(three[:1], one)


def test_a_position_does_not_depend_on_those_right_of_it() -> None:
    long, short = (draw_hidden(1, 2, blocks, DEFAULT) for blocks in (BLOCKS, BLOCKS[:10]))
    assert torch.equal(long[:, :10], short)


def test_a_block_shares_one_level() -> None:
    per_block = levels(DEFAULT).view(2, -1, 4)
    assert torch.equal(per_block, per_block[..., :1].expand_as(per_block))
    assert per_block[..., 0].unique().numel() == 2000
    per_token = levels(replace(DEFAULT, level="token"))
    assert per_token.unique().numel() > 7900


def test_levels_stay_between_low_and_high() -> None:
    drawn = levels(NoiseSchedule(0.3, 0.4, "token"))
    assert 0.3 - 1e-6 <= drawn.min() < 0.301 and 0.399 < drawn.max() <= 0.4 + 1e-6


def test_positions_are_hidden_with_the_probability_of_their_level() -> None:
    for schedule in (DEFAULT, replace(DEFAULT, level="token")):
        hidden = draw_hidden(0, 20, BLOCKS, schedule)
        assert abs(float(hidden.float().mean()) - 0.5) < 0.01
    assert draw_hidden(0, 1, BLOCKS, NoiseSchedule(1.0, 1.0)).all()


def test_a_response_shares_one_level() -> None:
    drawn = levels(replace(DEFAULT, level="response"))
    assert [len(row.unique()) for row in drawn] == [1, 1] and len(drawn.unique()) == 2


def test_the_elbo_weighs_a_hidden_position_by_one_over_its_level() -> None:
    """Then every position counts 1 in expectation, whatever its level."""
    drawn, level = draw_noise(3, 50, BLOCKS, DEFAULT)
    weight = elbo_weights(level)
    assert abs(float(((drawn < level) * weight).mean()) - 1) < 0.02
    assert elbo_weights(torch.zeros(2, 3, dtype=torch.float64)).tolist() == [[0.0] * 3] * 2


def test_levels_of_one_unit_are_spread_over_the_range() -> None:
    """Eight views of each block: cyclic ones fall into eight different eighths, rising ones end at the top."""
    blocks = torch.arange(40)
    cyclic = draw_noise(3, 8, blocks, NoiseSchedule(0.0, 1.0, spread="cyclic"))[1]  # (8, blocks)
    eighths = (cyclic * 8).floor().sort(0).values
    assert torch.equal(eighths, torch.arange(8.0)[:, None].expand(8, 40).double())
    assert cyclic[0].unique().numel() == 40
    rising = draw_noise(3, 8, blocks, NoiseSchedule(0.1, 0.9, spread="rising"))[1]
    torch.testing.assert_close(rising[-1], torch.full((40,), 0.9, dtype=torch.float64))
    steps = rising.diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand(7, 40))
    assert (steps > 0).all() and torch.equal(rising[0], cyclic[0] * 0.8 + 0.1)
