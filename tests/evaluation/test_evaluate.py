"""Evaluation: summaries worked out by hand, and a model measured from its config."""

import json
from pathlib import Path

import pytest

from tests.rollouts.toy_groups import group, trajectory
from tests.toy import toy_checkpoint
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.evaluation.evaluate import evaluate_model, summarize
from unmask.evaluation.metrics import mean_interval, ratio_interval, wilson_interval
from unmask.types import Group, Prompt


def half_right(prompt: Prompt, response: str) -> float:
    """Reward half of the prompts, and a little for long responses."""
    return 1.0 if prompt.reference["answer"] == "yes" else len(response) / 100


def test_one_sample_per_problem_is_summarised_with_wilson() -> None:
    groups = [group([1.0], [(4, 2)]), group([0.99], [(8, 3)]), group([1.0], [(6, 1)])]
    summary = summarize(groups)
    assert (summary.n, summary.samples) == (3, 1)
    assert summary.accuracy == pytest.approx(2 / 3)
    assert summary.ci95 == wilson_interval(2, 3)
    assert summary.tokens_per_denoising_step == 18 / 6
    assert summary.tokens_per_denoising_step_ci95 == ratio_interval([4, 8, 6], [2, 3, 1])
    assert summary.response_tokens == 6.0
    assert summary.truncated == 0.0


def test_several_samples_are_averaged_per_problem_and_bootstrapped() -> None:
    groups = [group([1.0, 0.0, 1.0, 1.0]), group([0.0] * 4), group([1.0] * 4)]
    summary = summarize(groups)
    assert (summary.n, summary.samples) == (3, 4)
    assert summary.accuracy == pytest.approx((0.75 + 0 + 1) / 3)
    assert summary.ci95 == mean_interval([0.75, 0.0, 1.0])


def test_answers_that_max_tokens_ended_are_counted() -> None:
    prompt = Prompt("toy", 1, (), (2,))
    cut = [trajectory(prompt, 4, 2, "length"), trajectory(prompt, 4, 2)]
    groups = [Group(prompt, cut, [0.0, 1.0]), group([0.0, 0.0])]
    assert summarize(groups).truncated == 0.25


def config(place: Path, *words: str) -> EvalConfig:
    """Write a checkpoint and ten questions once, and return how a model is measured on them."""
    if not (place / "checkpoint").exists():
        toy_checkpoint(place / "checkpoint")
        items = [
            {"question": f"{n}+{n}=", "ground_truth_answer": "no" if n % 2 else "yes"}
            for n in range(10)
        ]
        (place / "test.json").write_text(json.dumps(items))
    settings = [
        f"model.path={place / 'checkpoint'}",
        "task.kind=json",
        "task.template={question}",
        "task.reward=tests.evaluation.test_evaluate:half_right",
        f"task.test={place / 'test.json'}",
        "sampling.max_tokens=6",
    ]
    return load_config(EvalConfig, [], settings + list(words))[0]


def test_a_model_is_measured_and_every_answer_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    summary = evaluate_model(config(tmp_path, f"run.dir={run}", "samples=2"))
    assert (summary.accuracy, summary.n, summary.samples) == (0.5, 10, 2)
    assert json.loads((run / "summary.json").read_text()) == json.loads(
        json.dumps(summary.to_dict())
    )
    lines = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    assert len(lines) == 20
    assert sum(line["reward"] == 1.0 for line in lines) == 10
    assert (run / "config.json").exists()
    assert (run / "environment.json").exists()


def test_the_same_seed_gives_the_same_summary(tmp_path: Path) -> None:
    first, again, other = (
        evaluate_model(config(tmp_path, f"run.dir={tmp_path / name}", f"run.seed={seed}"))
        for name, seed in [("first", 1), ("again", 1), ("other", 2)]
    )
    assert first == again != other


def test_problems_takes_the_first_ones(tmp_path: Path) -> None:
    assert evaluate_model(config(tmp_path, f"run.dir={tmp_path / 'run'}", "problems=4")).n == 4


def test_what_is_refused_leaves_no_directory_behind(tmp_path: Path) -> None:
    for word, said in [("split=train", "task.train"), ("sampling.max_tokens=500", "max_tokens")]:
        with pytest.raises(ValueError, match=said):
            evaluate_model(config(tmp_path, f"run.dir={tmp_path / 'run'}", word))
        assert not (tmp_path / "run").exists()
