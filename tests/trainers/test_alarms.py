"""Alarms ring beyond their bounds, are logged at every step and printed once."""

import pytest
import torch

from unmask.configs.alarm import AlarmConfig
from unmask.trainers.alarms import Alarms


def test_a_gap_beyond_rounding_rings_and_is_printed_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    alarms = Alarms(AlarmConfig(), torch.float32)
    quiet = alarms.check(1, {"logprob_gap_max": 1e-6, "groups_kept": 0.5})
    assert quiet == {
        "alarm_logprob_gap": 0,
        "alarm_diversity": 0,
        "alarm_empty": 0,
        "logprob_gap_bound": 1e-3,
    }
    assert capsys.readouterr().err == ""
    for step in (2, 3):
        assert alarms.check(step, {"logprob_gap_max": 0.1, "groups_kept": 0.5})["alarm_logprob_gap"]
    said = capsys.readouterr().err
    assert said.count("alarm at step") == 1
    assert "alarm at step 2" in said and "alarm.logprob_gap" in said.replace("\n", "")


def test_rounding_of_narrow_weights_is_no_alarm() -> None:
    numbers = {"logprob_gap_max": 0.1, "groups_kept": 0.5}
    assert not Alarms(AlarmConfig(), torch.bfloat16).check(1, numbers)["alarm_logprob_gap"]
    given = Alarms(AlarmConfig(logprob_gap=0.05), torch.bfloat16)
    assert given.check(1, numbers)["alarm_logprob_gap"]


def test_a_batch_invariant_model_has_no_rounding() -> None:
    alarms = Alarms(AlarmConfig(), torch.bfloat16, is_batch_invariant=True)
    for gap in (0.0, 1e-9):
        rings = alarms.check(1, {"logprob_gap_max": gap, "groups_kept": 0.5})
        assert (rings["alarm_logprob_gap"], rings["logprob_gap_bound"]) == (gap > 0, 0)


def test_answers_all_alike_ring_until_they_differ_again(capsys: pytest.CaptureFixture[str]) -> None:
    alarms = Alarms(AlarmConfig(groups_kept=0.1), torch.float32)
    rings = [alarms.check(n, {"groups_kept": kept}) for n, kept in enumerate([0.0, 0.05, 0.2, 0.0])]
    assert [ring["alarm_diversity"] for ring in rings] == [1, 1, 0, 1]
    assert capsys.readouterr().err.count("fewer than 10%") == 2


def test_many_steps_in_a_row_without_a_group_end_the_run() -> None:
    alarms = Alarms(AlarmConfig(empty_steps=3), torch.float32)
    for step, kept in enumerate([0.0, 0.0, 0.5, 0.0, 0.0]):
        assert alarms.check(step, {"groups_kept": kept})["alarm_empty"] == (kept == 0)
        alarms.stop_if_stuck()
    alarms.check(6, {"groups_kept": 0.0})
    with pytest.raises(ValueError, match=r"alarm\.empty_steps = 3: that many steps in a row"):
        alarms.stop_if_stuck()
    patient = Alarms(AlarmConfig(empty_steps=0), torch.float32)
    for step in range(99):
        patient.check(step, {"groups_kept": 0.0})
        patient.stop_if_stuck()
