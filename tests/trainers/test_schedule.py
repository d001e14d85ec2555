"""Learning rates at the steps that matter."""

from typing import Any

import pytest

from unmask.configs.optimizer import OptimizerConfig
from unmask.trainers.schedule import learning_rate

TOTAL, WARMUP = 21, 5


def rates(total: int = TOTAL, **settings: Any) -> list[float]:
    config = OptimizerConfig.model_validate({"lr": 2.0, "warmup_steps": WARMUP, **settings})
    return [learning_rate(config, step, total) for step in range(total)]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warmup_rises_linearly_and_its_first_step_is_not_zero(schedule: str) -> None:
    found = rates(schedule=schedule)
    assert found[:WARMUP] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[WARMUP] == pytest.approx(2.0)


def test_constant_stays_and_has_no_floor() -> None:
    assert rates(schedule="constant")[WARMUP:] == [2.0] * (TOTAL - WARMUP)
    with pytest.raises(ValueError, match=r"final_lr_share = 0\.1 has no effect with schedule"):
        rates(schedule="constant", final_lr_share=0.1)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_last_step_has_the_final_share(schedule: str, share: float) -> None:
    found = rates(schedule=schedule, final_lr_share=share)
    assert found[-1] == pytest.approx(2.0 * share)
    assert found[WARMUP:] == sorted(found[WARMUP:], reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_half_way_down_is_half_of_the_way(schedule: str) -> None:
    assert rates(26, schedule=schedule, warmup_steps=5)[15] == pytest.approx(1.0)


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert rates(schedule="cosine", warmup_steps=0)[0] == 2.0


@pytest.mark.parametrize("total", [1, 4, 5, 6])
def test_a_run_that_ends_within_warmup_is_no_division_by_zero(total: int) -> None:
    found = rates(total, schedule="cosine")
    assert found[:WARMUP] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0][:total])
