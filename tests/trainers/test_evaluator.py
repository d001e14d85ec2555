"""Evaluation during training: when it is due, and its metrics."""

from pathlib import Path

import pytest

from tests.trainers.toy_runs import rl_config
from unmask.engine.build import build_llm
from unmask.tasks.build import build_task
from unmask.trainers.evaluator import Evaluator


def evaluator_of(place: Path, *words: str) -> Evaluator:
    config = rl_config(place, *words)
    llm = build_llm(config.model, config.engine)
    return Evaluator(llm, build_task(config.task), config)


@pytest.mark.parametrize(
    ("words", "due"),
    [
        (["eval.problems=4", "eval.every=0"], [7]),
        (["eval.problems=4", "eval.every=3"], [3, 6, 7]),
        (["eval.problems=0", "eval.every=3"], []),
    ],
)
def test_it_is_due_every_so_often_and_after_the_last_step(
    words: list[str], due: list[int], tmp_path: Path
) -> None:
    evaluator = evaluator_of(tmp_path, *words)
    assert [step for step in range(1, 8) if evaluator.is_due(step, last_step=7)] == due


def test_it_measures_the_same_model_alike_and_names_its_numbers(tmp_path: Path) -> None:
    evaluator = evaluator_of(tmp_path, "eval.problems=4", "eval.samples=2")
    numbers = evaluator.measure()
    assert numbers == evaluator.measure()
    assert set(numbers) == {
        "eval_accuracy",
        "eval_accuracy_low",
        "eval_accuracy_high",
        "eval_reward",
        "eval_tokens_per_denoising_step",
        "eval_response_tokens",
        "eval_truncated",
    }


def test_its_own_sampling_goes_before_that_of_training(tmp_path: Path) -> None:
    short = evaluator_of(tmp_path, "eval.problems=4", "eval.sampling.max_tokens=1").measure()
    assert short["eval_response_tokens"] == 1.0
    assert evaluator_of(tmp_path, "eval.problems=4").measure()["eval_response_tokens"] > 1


def test_without_problems_no_held_out_split_is_needed(tmp_path: Path) -> None:
    words = ["task.validation=none", "eval.problems=0"]
    assert not evaluator_of(tmp_path, *words).is_due(1, last_step=1)
    with pytest.raises(ValueError, match=r"task\.validation"):
        evaluator_of(tmp_path, "task.validation=none", "eval.problems=1")


def test_a_response_without_room_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower max_tokens"):
        evaluator_of(tmp_path, "eval.problems=4", "eval.sampling.max_tokens=999")
