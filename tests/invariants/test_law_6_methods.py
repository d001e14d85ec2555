"""Law 6 for every shipped method: save, kill, resume is the uninterrupted run, to the bit, with LoRA too."""

from pathlib import Path

import pytest

from tests.invariants.test_law_6_resume import interrupt, left_behind
from tests.trainers.breaking import REWARD
from tests.trainers.toy_methods import FILES, words_of
from tests.trainers.toy_runs import rl_config
from unmask.trainers.rl import train_rl

STEPS = 3


def short_rl(place: Path, name: str, *words: str) -> Path:
    """Train by RL with a checkpoint every step; 12 rewards a step, 4 an evaluation."""
    settings = ["save_every=1", "eval.problems=4", "eval.every=2", REWARD, f"steps={STEPS}", *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


@pytest.mark.parametrize("method", FILES)
def test_a_run_that_is_stopped_in_its_second_step_is_the_run_that_is_not(
    method: str, tmp_path: Path
) -> None:
    has_adapters = list(FILES).index(method) % 2 == 1 and method != "tracerl_value"
    words = [*words_of(method), *(["lora.rank=2"] if has_adapters else [])]
    interrupt(short_rl, tmp_path, "parts", "raise:20", *words)
    whole = left_behind(short_rl(tmp_path, "whole", *words))
    assert left_behind(short_rl(tmp_path, "parts", *words)) == whole
    assert [line["step"] for line in whole["metrics"]] == list(range(1, STEPS + 1))
    assert all(line["gradient_norm"] > 0 for line in whole["metrics"] if line["updates"])
    assert any(line["updates"] for line in whole["metrics"])
