"""Speed: its scale, and the answers that it rewards."""

from dataclasses import replace

import pytest

from tests.rewards.toy_answers import answer
from unmask.rewards.speed import score_speed, tokens_per_step_share
from unmask.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("length", "steps", "full_at", "share"),
    [
        (8, 8, None, 0.0),
        (8, 2, None, 1.0),  # blocks of 4
        (8, 4, None, 1 / 3),
        (8, 1, None, 1.0),  # never more than all
        (8, 4, 3.0, 0.5),
    ],
)
def test_it_goes_from_one_token_a_step_to_all_of_a_block(
    length: int, steps: int, full_at: float | None, share: float
) -> None:
    found = tokens_per_step_share(answer(length=length, steps=steps).trajectory, full_at)
    assert found == pytest.approx(share)


def test_a_block_of_one_token_has_no_speed_and_no_blocks_mean_the_canvas() -> None:
    written = answer(length=8, steps=4).trajectory
    one = replace(written, sampling=SamplingParams(block_size=1))
    assert tokens_per_step_share(one, None) == 0.0
    whole = replace(written, sampling=SamplingParams(block_size=None))
    assert tokens_per_step_share(whole, None) == pytest.approx((2 - 1) / (9 - 1))


def test_only_answers_above_the_threshold_are_rewarded() -> None:
    group = [answer(length=8, steps=2, outcome=o) for o in (0.0, 0.5, 1.0)]
    for right_from, paid in ((1.0, [0, 0, 1]), (0.5, [0, 1, 1]), (None, [1, 1, 1])):
        (scores,) = score_speed([group], right_from, None)
        assert [score.reward for score in scores] == paid
